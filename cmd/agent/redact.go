package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"strings"

	"ferryman/agent/config"
)

const hidden = "(redacted)"

var (
	// secretKeys are names of keys whose values nobody else needs: parameters of
	// a database such as requirepass, and the hashes of join tokens.
	secretKeys = []string{"pass", "secret", "token", "auth", "credential", "hash"}
	// userInfo is a name and a password in a URL, query what may sign it.
	userInfo = regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^/?#\s"']*@`)
	query    = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s"'?]*)\?[^\s"']*`)
	// said is a secret in a line of text, by the word before it.
	said = regexp.MustCompile(`(?i)((?:(?:password|passwd|secret)["']?[=:]\s*|(?:token|credential)["']?=|requirepass\s+|masterauth\s+|authorization:\s*bearer\s+)["']?)[^\s"',;]+`)
	// pemKey is a private key, joinToken a join token.
	pemKey    = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`)
	joinToken = regexp.MustCompile(`fm1\.[0-9a-f]{16}\.[A-Za-z0-9_.-]+`)
)

// secrets are texts that must not be shown, wherever they stand.
type secrets []string

// secretsOf reads the files of secrets that the configuration names. What cannot
// be read here is known by its looks only.
func secretsOf(cfg config.Config) secrets {
	var all secrets
	for _, path := range []string{cfg.Database.PasswordFile, cfg.Source.TokenFile, cfg.JoinTokenFile} {
		if path == "" {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if s := strings.TrimSpace(string(raw)); s != "" {
			all = append(all, s)
		}
	}
	if u, err := url.Parse(cfg.Source.URL); err == nil {
		if s, ok := u.User.Password(); ok && s != "" {
			all = append(all, s)
		}
	}
	return all
}

// hide is the text without them, also as JSON and URLs write them, and without
// what looks like others.
func (s secrets) hide(text string) string {
	for _, secret := range s {
		for _, form := range []string{secret, quoted(secret, true), quoted(secret, false), url.QueryEscape(secret), url.PathEscape(secret)} {
			text = strings.ReplaceAll(text, form, hidden)
		}
	}
	text = joinToken.ReplaceAllString(pemKey.ReplaceAllString(hideInURLs(text), hidden), hidden)
	return said.ReplaceAllString(text, "${1}"+hidden)
}

// hideInURLs takes names and passwords, and what may sign it, out of every URL.
func hideInURLs(text string) string {
	return query.ReplaceAllString(userInfo.ReplaceAllString(text, "${1}"+hidden+"@"), "${1}?"+hidden)
}

// quoted is a text as JSON has it, without the quotes.
func quoted(s string, html bool) string {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		return s // there is nothing to fail
	}
	return strings.TrimSuffix(strings.TrimPrefix(out.String(), `"`), "\"\n")
}

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
		return hideInURLs(v)
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
