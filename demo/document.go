package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"ferryman"
)

// describe measures an archive that exists.
func describe(path string) (ferryman.Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return ferryman.Archive{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return ferryman.Archive{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n}, err
}

// firstDocument is the desired state that the demo begins with.
func (s *stage) firstDocument() (ferryman.Document, error) {
	first, next, broken := s.eng.versions()
	d := ferryman.Document{
		Cluster: ferryman.ClusterName(clusterID),
		Nodes:   3,
		Database: ferryman.Database{Engine: s.eng.name(), Version: first,
			Failover: ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: ferryman.Duration(2 * time.Second)}},
		Releases: map[string]ferryman.Release{},
		Rollout:  ferryman.Policy{Bake: ferryman.Duration(time.Second), MinHealthy: ferryman.Duration(time.Second), StepDeadline: ferryman.Duration(30 * time.Second)},
	}
	one := 1
	d.Rollout.Canary = &one
	for _, v := range []string{first, next, broken} {
		raw, err := os.ReadFile(filepath.Join(s.dir, "artefacts", archiveName(s.eng.name(), v)+".json"))
		if err != nil {
			return d, err
		}
		var a ferryman.Archive
		if err := json.Unmarshal(raw, &a); err != nil {
			return d, err
		}
		a.URL = fmt.Sprintf("http://%s/artefacts/%s", s.address, archiveName(s.eng.name(), v))
		d.Releases[ferryman.ReleaseKey(s.eng.name(), v)] = ferryman.Release{Archive: &a}
	}
	return d, nil
}

// publish makes d the desired state, under the next generation.
func (s *stage) publish(d *ferryman.Document) error {
	d.Generation++
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.document + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.document)
}
