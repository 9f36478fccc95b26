package source

// PAE is what is signed.
func PAE(e Envelope) []byte { return e.signed() }
