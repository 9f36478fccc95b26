package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// Read reads keys from the instance at addr; one that is not there is left out.
func Read(ctx context.Context, addr, username, password string, keys []string) (map[string]string, error) {
	client, err := connect(ctx, addr, username, password)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := map[string]string{}
	for _, key := range keys {
		value, err := client.Get(ctx, key).Result()
		if errors.Is(err, goredis.Nil) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[key] = value
	}
	return found, nil
}
