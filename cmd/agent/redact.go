package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

const hidden = "(redacted)"

var (
	// secretKeys are names of keys whose values nobody else needs: parameters of
	// a database such as requirepass, and the hashes of join tokens.
	secretKeys = []string{"pass", "secret", "token", "auth", "credential", "hash"}
	// userInfo is a name and a password in a URL, query what may sign it.
	userInfo = regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^/?#\s"']*@`)
	query    = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s"'?]*)\?[^\s"']*`)
)

// redacted is data as JSON without what looks like a secret.
func redacted(data any) ([]byte, error) {
	var plain bytes.Buffer
	if err := writeJSON(&plain, data, ""); err != nil {
		return nil, err
	}
	decode := json.NewDecoder(&plain)
	decode.UseNumber() // log indexes do not fit into a float
	var v any
	if err := decode.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err := writeJSON(&out, redact(v), "  ")
	return out.Bytes(), err
}

func redact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if text, ok := value.(string); ok && text != "" && secret(key) {
				v[key] = hidden
				continue
			}
			v[key] = redact(value)
		}
	case []any:
		for i := range v {
			v[i] = redact(v[i])
		}
	case string:
		return query.ReplaceAllString(userInfo.ReplaceAllString(v, "${1}"+hidden+"@"), "${1}?"+hidden)
	}
	return v
}

func secret(key string) bool {
	key = strings.ToLower(key)
	for _, s := range secretKeys {
		if strings.Contains(key, s) {
			return true
		}
	}
	return false
}
