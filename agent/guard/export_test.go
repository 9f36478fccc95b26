package guard

// Digest tells one Spec from another, as Status.Spec does.
func (s Spec) Digest() string { return s.digest() }
