package harness

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

const plainConfig = `
registration: {open: true, guests: true}
limits: {connections_per_address: 0}
unsafe: {no_rate_limits: true, cheap_password_hashing: true}
`

// writeConfig writes the configuration of a server.
func writeConfig(path string, o Options, more ...string) error {
	config := map[string]any{}
	for _, part := range slices.Concat([]string{plainConfig}, more, []string{o.Config}) {
		added := map[string]any{}
		if err := yaml.Unmarshal([]byte(part), &added); err != nil {
			return fmt.Errorf("configuration of the server: %w", err)
		}
		merge(config, added)
	}
	if !o.Durable {
		merge(config, map[string]any{"unsafe": map[string]any{"unsafe_durability": true}})
	}
	merged, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, merged, 0o600)
}

// Configure merges YAML into the configuration, key by key, for the server's next start.
func (s *Server) Configure(t testing.TB, text string) {
	t.Helper()
	config, added := map[string]any{}, map[string]any{}
	old, err := os.ReadFile(s.configFile())
	if err := errors.Join(err, yaml.Unmarshal(old, &config), yaml.Unmarshal([]byte(text), &added)); err != nil {
		t.Fatal(err)
	}
	merge(config, added)
	merged, err := yaml.Marshal(config)
	if err := errors.Join(err, os.WriteFile(s.configFile(), merged, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// merge puts the keys of added into config, into the sections that both have.
func merge(config, added map[string]any) {
	for key, value := range added {
		section, isSection := value.(map[string]any)
		known, hasSection := config[key].(map[string]any)
		if isSection && hasSection {
			merge(known, section)
			continue
		}
		config[key] = value
	}
}
