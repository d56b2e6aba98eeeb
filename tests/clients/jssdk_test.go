package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/tests/harness"
)

const (
	installTime = 5 * time.Minute
	talkTime    = 5 * time.Minute
)

// The script, and the packages that it needs. To take newer ones, change package.json and run
// npm install --package-lock-only --omit-lockfile-registry-resolved beside it.
var (
	//go:embed jssdk/package.json
	packageJSON []byte
	//go:embed jssdk/package-lock.json
	packageLock []byte
	//go:embed jssdk/*.mjs
	scripts embed.FS
)

// TestJSSDK is a conversation of users of matrix-js-sdk, over a restart of the server.
func TestJSSDK(t *testing.T) {
	harness.EachOwn(t, asInstalled, func(t *testing.T, srv *harness.Server) {
		talk(t, "talk.mjs", srv)
	})
}

// TestJSSDKSliding is the same conversation over sliding sync.
func TestJSSDKSliding(t *testing.T) {
	harness.EachOwn(t, asInstalled, func(t *testing.T, srv *harness.Server) {
		talk(t, "sliding.mjs", srv)
	})
}

// TestJSSDKEncrypted is an encrypted conversation of users of matrix-js-sdk at two servers.
func TestJSSDKEncrypted(t *testing.T) {
	harness.EachFederation(t, 2, asInstalled, func(t *testing.T, servers []*harness.Server) {
		talk(t, "encrypted.mjs", servers...)
	})
}

// relay passes requests on over a wire. Where that gives no answer, it gives none.
func relay(w *wire) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:      func(*httputil.ProxyRequest) {},
		Transport:    w,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

// command is the command that runs a script, which gets the addresses of servers. It speaks
// with them over wires.
func command(t *testing.T, script string, servers ...*harness.Server) *exec.Cmd {
	t.Helper()
	modules, err := nodeModules()
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(scripts, "jssdk")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(dir, files), os.Symlink(modules, filepath.Join(dir, "node_modules"))); err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(dir, script)}
	for _, srv := range servers {
		home := httptest.NewServer(relay(newWire(t, srv, "GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports")))
		t.Cleanup(home.Close)
		args = append(args, home.URL)
	}
	return exec.Command("node", args...)
}

// talk runs a script, restarts the servers when it asks for that, and fails for each step
// that fails, is missing or makes the SDK complain.
func talk(t *testing.T, script string, servers ...*harness.Server) {
	t.Helper()
	cmd := command(t, script, servers...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(talkTime, func() { _ = cmd.Process.Kill() }) // which Wait tells
	defer timer.Stop()
	planned, passed := -1, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "restart":
			restart(t, in, servers...)
		case strings.HasPrefix(line, "ok "):
			passed++
		case strings.HasPrefix(line, "1.."):
			if _, err := fmt.Sscanf(line, "1..%d", &planned); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		default:
			t.Error(line)
		}
	}
	if err := cmd.Wait(); err != nil || passed != planned {
		t.Errorf("%d of %d steps passed: %v", passed, planned, err)
	}
	for line := range strings.Lines(complaints.String()) {
		if !removedRules.MatchString(line) {
			t.Errorf("the SDK complains: %s", line)
		}
	}
}

// removedRules are default push rules that the specification has removed in its version
// 1.17, and that the SDK misses all the same.
var removedRules = regexp.MustCompile(`^Missing default global override push rule \.m\.rule\.(contains_display_name|roomnotif)\n$`)

// restart restarts the servers and says so.
func restart(t *testing.T, to io.Writer, servers ...*harness.Server) {
	t.Helper()
	for _, srv := range servers {
		if err := errors.Join(srv.Stop(), srv.Start()); err != nil {
			t.Error(err)
		}
	}
	if _, err := io.WriteString(to, "done\n"); err != nil {
		t.Error(err)
	}
}

// nodeModules is a directory with the packages that the script needs. It is made once and
// kept in the user's cache.
var nodeModules = sync.OnceValues(func() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("the test with matrix-js-sdk needs Node.js 18 or newer, with npm: %w", err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "beep-tests", fmt.Sprintf("jssdk-%x", sha256.Sum256(packageLock)))
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	return modules, install(dir)
})

// install makes a directory with the packages: under another name first, so that what is
// there is whole.
func install(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := errors.Join(
		os.WriteFile(filepath.Join(made, "package.json"), packageJSON, 0o600),
		os.WriteFile(filepath.Join(made, "package-lock.json"), packageLock, 0o600),
	); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = made
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(made, dir); err != nil && !errors.Is(err, os.ErrExist) { // another test was faster
		return err
	}
	return nil
}
