package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"ferryman"
	"ferryman/agent/identity"
)

// Enroll turns a join token into a node's certificate, key and CA in dir. It
// asks the addresses (of any members) in turn and goes where they say the
// leader is. Nothing is sent to a node that the token's CA did not sign.
//
// A token is used up by the first answer. If that answer is lost on the way, a
// new token is needed.
func Enroll(ctx context.Context, dir, name string, token identity.Token, addresses []string) error {
	if !identity.ValidName(name) {
		return fmt.Errorf("enrol: %w node name %q", ferryman.ErrInvalid, name)
	}
	if identity.Exists(dir) {
		return fmt.Errorf("enrol %s: %w: %s already holds a certificate; move it away to enrol anew", name, ferryman.ErrConflict, dir)
	}
	if len(addresses) == 0 {
		return fmt.Errorf("enrol %s: %w: no address of a member to ask", name, ferryman.ErrInvalid)
	}
	req, key, err := identity.NewRequest(name)
	if err != nil {
		return err
	}
	reply, err := askToEnroll(ctx, token, addresses, EnrollRequest{Token: token.Encode(), Name: name, Request: req})
	if err != nil {
		return fmt.Errorf("enrol %s with token %s: %w", name, token.ID, err)
	}
	if err := token.CheckCA(reply.CACertificate); err != nil {
		return fmt.Errorf("enrol %s: %w", name, err)
	}
	ca, err := identity.ParseCA(reply.CACertificate, reply.CAKey)
	if err != nil {
		return fmt.Errorf("enrol %s: %w", name, err)
	}
	if err := ca.Save(dir); err != nil {
		return fmt.Errorf("enrol %s: %w", name, err)
	}
	return identity.WriteNode(dir, reply.CACertificate, reply.Certificate, key)
}

func askToEnroll(ctx context.Context, token identity.Token, addresses []string, req EnrollRequest) (EnrollReply, error) {
	var failed []error
	for _, address := range addresses {
		reply, err := enrollAt(ctx, token, address, req)
		var notLeader NotLeader
		if errors.As(err, &notLeader) && notLeader.Leader.Address != "" {
			reply, err = enrollAt(ctx, token, notLeader.Leader.Address, req)
		}
		if err == nil {
			return reply, nil
		}
		failed = append(failed, err)
		// Only where nobody decided is there a point in asking another.
		if !errors.Is(err, ferryman.ErrUnavailable) && !errors.Is(err, ferryman.ErrNotLeader) {
			break
		}
	}
	return EnrollReply{}, errors.Join(failed...)
}

func enrollAt(ctx context.Context, token identity.Token, address string, req EnrollRequest) (EnrollReply, error) {
	creds := tokenCreds(token)
	conn, err := grpc.NewClient("passthrough:///"+address, dialOptions(creds)...)
	if err != nil {
		return EnrollReply{}, fmt.Errorf("ask %q: %w", address, err)
	}
	defer conn.Close()
	c := caller{conn: conn, last: creds.last, service: peerService, whom: address}
	return invoke[EnrollReply](ctx, c, callEnroll, req)
}
