package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"ferryman"
)

// Digest identifies what a document says, whatever it looks like: comments,
// the order of keys, YAML or JSON, and a new signature do not change it.
func Digest(d ferryman.Document) string { return sum(canonical(d)) }

func canonical(d ferryman.Document) []byte {
	raw, err := json.Marshal(d) // sorts the keys of maps
	if err != nil {
		panic(fmt.Sprintf("source: a document cannot be written as JSON: %v", err)) // plain fields only
	}
	return raw
}

func sum(raw []byte) string {
	digest := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(digest[:])
}
