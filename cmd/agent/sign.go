package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/source"
)

func desiredKeygenCommand() *cobra.Command {
	out := "desired.key"
	c := &cobra.Command{Use: "keygen", Short: "Make a key that signs documents, and print its id", Args: cobra.NoArgs,
		Long: "Make a key that signs documents, and print its id.\nThe private key goes where documents are released, and to no node; the public one, in a file\nof the same name that ends in .pub, to every node (source.trusted_keys).",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("--out: must name a file")
			}
			key, err := source.NewKey()
			if err != nil {
				return err
			}
			private, err := key.PEM()
			if err != nil {
				return err
			}
			public, err := key.Public().PEM()
			if err != nil {
				return err
			}
			trusted := strings.TrimSuffix(out, ".key") + ".pub"
			if _, err := os.Lstat(trusted); err == nil {
				return fmt.Errorf("%w: %s is there already; move it away, or name another with --out", ferryman.ErrConflict, trusted)
			}
			if err := writeNew(out, private, 0o600); err != nil {
				return err
			}
			if err := writeNew(trusted, public, 0o644); err != nil {
				return err
			}
			say(c, "%s signs: keep it where documents are released, and on no node; %s is for source.trusted_keys of every node", out, trusted)
			_, err = fmt.Fprintln(c.OutOrStdout(), key.Public().ID)
			return err
		}}
	c.Flags().StringVar(&out, "out", out, "the file of the private key")
	return c
}

// writeNew writes a file that is not there yet, durably: a key that is lost
// after it was trusted is a pity.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s is there already; move it away, or name another with --out", ferryman.ErrConflict, path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func desiredSignCommand() *cobra.Command {
	var paths []string
	c := &cobra.Command{Use: "sign --key FILE DOCUMENT", Short: "Print a document in an envelope that carries a signature (- is the standard input)", Args: cobra.ExactArgs(1),
		Long: "Print a document in an envelope that carries a signature: that is what the api-server then serves.\nOne that is in an envelope already gets one signature more, or a new one in the place of the same key's.",
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if len(paths) == 0 {
				return usage("--key: must name the file of the private key; `ferryman desired keygen` makes one")
			}
			raw, err := readDocument(c, name)
			if err != nil {
				return err
			}
			e := source.Envelope{Type: source.PayloadType, Payload: raw}
			if source.Signed(raw) {
				if e, err = source.ParseEnvelope(raw); err != nil {
					return unusable(fmt.Errorf("%s: %w", name, err))
				}
			}
			var by []string
			for _, path := range paths {
				key, exposed, err := source.ReadPrivateKey(path)
				if err != nil {
					return unusable(err)
				}
				if exposed != "" {
					say(c, "warning: %s", exposed)
				}
				e.Sign(key)
				by = append(by, key.Public().String())
			}
			// What no node would take is not worth a signature.
			signed := e.Marshal()
			doc, err := source.Read(signed, name)
			if err != nil {
				return unusable(err)
			}
			say(c, "signed by %s: cluster %s, generation %d; signatures in all: %d", strings.Join(by, ", "), doc.Cluster, doc.Generation, len(e.Signatures))
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", signed)
			return err
		}}
	c.Flags().StringArrayVar(&paths, "key", nil, "the file of a private key; may be given again")
	return c
}

func desiredVerifyCommand() *cobra.Command {
	var paths []string
	var need int
	c := &cobra.Command{Use: "verify --keys FILE ENVELOPE", Short: "Print the document in an envelope if trusted keys signed it (- is the standard input)", Args: cobra.ExactArgs(1),
		Long: "Print the document in an envelope, as it was signed, if enough trusted keys signed it.\nWhether it may follow the one in force is for the cluster to judge.",
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if len(paths) == 0 {
				return usage("--keys: must name a file with a public key, or a directory of them, as source.trusted_keys does")
			}
			keys, err := source.ReadKeys(paths, need)
			if err != nil {
				return unusable(err)
			}
			raw, err := readDocument(c, name)
			if err != nil {
				return err
			}
			doc, signers, err := keys.Open(raw, name)
			if errors.Is(err, source.ErrUntrusted) {
				return exitStatus{exitFailed, fmt.Errorf("%s: %w", name, err)}
			}
			if err != nil {
				return unusable(err)
			}
			e, err := source.ParseEnvelope(raw)
			if err != nil {
				return err
			}
			say(c, "%s is good: cluster %s, generation %d, signed by %s", name, doc.Cluster, doc.Generation, strings.Join(signers, ", "))
			_, err = c.OutOrStdout().Write(e.Payload)
			return err
		}}
	c.Flags().StringArrayVar(&paths, "keys", nil, "a file with a public key, or a directory of them (*.pub); may be given again")
	c.Flags().IntVar(&need, "signatures", 1, "by how many of the keys it must be signed")
	return c
}
