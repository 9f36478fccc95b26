package agent

import (
	"fmt"
	"io"
	"os"
	"strings"

	"ferryman"
)

// maxPassword is more than any password is long, in bytes.
const maxPassword = 512

// readPassword reads the database's password from a file of one line. An error
// never holds any of it.
func readPassword(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("database.password_file: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("database.password_file: %w", err)
	}
	password := strings.TrimRight(string(raw), "\r\n")
	// It ends up in the databases' own files of lines.
	if password == "" || len(raw) > maxPassword || strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: database.password_file: %s does not hold a password: one line of printable ASCII, at most %d bytes", ferryman.ErrInvalid, path, maxPassword)
	}
	return password, nil
}
