package port_test

import (
	"net"
	"testing"

	"ferryman/demo/port"
)

func TestFree(t *testing.T) {
	for range 100 {
		ln, err := net.Listen("tcp", port.Free())
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
}
