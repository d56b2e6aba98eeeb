package storage_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

const crashURL = "STORAGE_TEST_CRASH_URL"

// TestCrash kills a process that writes, again and again, and checks that all it
// had been told to be written is there, and that no position came twice.
func TestCrash(t *testing.T) {
	if url := os.Getenv(crashURL); url != "" {
		writeUntilKilled(t, url)
		return
	}
	storagetest.EachURL(t, func(t *testing.T, url string) {
		acknowledged := map[string]stream.Pos{}
		var highest stream.Pos
		for cycle := range 5 {
			before := highest
			for name, pos := range killedWriter(t, url, cycle) {
				if pos <= before {
					t.Errorf("position %d was given out in an earlier life", pos)
				}
				highest = max(highest, pos)
				acknowledged[name] = pos
			}
		}
		db := open(t, storage.Options{URL: url})
		there := map[string]bool{}
		for _, name := range names(t, db) {
			there[name] = true
		}
		for name := range acknowledged {
			if !there[name] {
				t.Errorf("%s was acknowledged and is lost", name)
			}
		}
	})
}

// killedWriter runs a writer until it has acknowledged some writes and kills it.
// It gives what was acknowledged, with the positions.
func killedWriter(t *testing.T, url string, cycle int) map[string]stream.Pos {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), crashURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]stream.Pos{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		pos, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("the writer says %q", lines.Text())
		}
		acknowledged["pos"+lines.Text()] = stream.Pos(pos)
		if len(acknowledged) == 20+10*cycle {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	return acknowledged
}

func writeUntilKilled(t *testing.T, url string) {
	db := storagetest.Open(t, url)
	var group sync.WaitGroup
	var stdout sync.Mutex
	for range 8 {
		group.Go(func() {
			for {
				var pos stream.Pos
				err := db.Write(t.Context(), func(tx *storage.Tx) error {
					pos = tx.Reserve()
					return tx.Exec(t.Context(), insertSetting, fmt.Sprint("pos", pos), "v")
				})
				if err != nil {
					t.Error(err)
					return
				}
				stdout.Lock()
				fmt.Println(pos)
				stdout.Unlock()
			}
		})
	}
	group.Wait()
}
