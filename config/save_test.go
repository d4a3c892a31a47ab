package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// seedFile is a copy of the seed's configuration in a directory of its own.
func seedFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.toml")
	if err := errors.Join(os.WriteFile(path, readSeed(t), 0o640), os.Chmod(path, 0o640)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSetOnlineFile(t *testing.T) {
	path := seedFile(t)
	if err := os.Chmod(path, 0o604); err != nil { // not what any umask makes
		t.Fatal(err)
	}
	changes, err := SetOnlineFile(path, []string{"blog"}, false)
	if err != nil || len(changes) != 1 {
		t.Fatalf("SetOnlineFile = %v, %v", changes, err)
	}
	want := bytes.Replace(readSeed(t), []byte("online = true"), []byte("online = false"), 1)
	if got := readFile(t, path); !bytes.Equal(got, want) {
		t.Errorf("the file is %q; want %q", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o604 {
		t.Errorf("mode = %v, %v; want 0604", info.Mode(), err)
	}
	alone(t, path)
}

// alone checks that nothing was left beside the file.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v; want it alone", entries, err)
	}
}

func TestSetOnlineFileKeepsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := seedFile(t)
	if err := os.Chown(path, 12345, 23456); err != nil {
		t.Skip(err)
	}
	if _, err := SetOnlineFile(path, []string{"blog"}, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 12345 || s.Gid != 23456 || info.Mode().Perm() != 0o640 {
		t.Errorf("owner %d:%d, mode %v; want 12345:23456, 0640", s.Uid, s.Gid, info.Mode())
	}
}

func TestSetOnlineFileFollowsASymlink(t *testing.T) {
	path := seedFile(t)
	link := filepath.Join(t.TempDir(), "link.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := SetOnlineFile(link, []string{"blog"}, false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	if c, err := Load(path); err != nil || c.Hosts[0].Online {
		t.Errorf("the target was not edited: %v", err)
	}
	alone(t, link)
}

func TestSetOnlineFileWithoutChangeWritesNothing(t *testing.T) {
	path := seedFile(t)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SetOnlineFile(path, []string{"blog"}, true); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced although nothing changes: %v", err)
	}
}

func TestSetOnlineFileThatCannotBeWritten(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everything")
	}
	path := seedFile(t)
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := SetOnlineFile(path, []string{"blog"}, false); err == nil || !strings.Contains(err.Error(), "run this as the file's owner") {
		t.Errorf("SetOnlineFile on a read-only file: %v; want the remedy", err)
	}
	os.Chmod(path, 0o640)
	os.Chmod(filepath.Dir(path), 0o550)
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o750) })
	if _, err := SetOnlineFile(path, []string{"blog"}, false); err == nil || !strings.Contains(err.Error(), "permission denied; run this as the file's owner") || strings.Contains(err.Error(), "."+filepath.Base(path)) {
		t.Errorf("SetOnlineFile in a read-only directory: %v; want the remedy, and no name that nobody knows", err)
	}
	if got := readFile(t, path); !bytes.Equal(got, readSeed(t)) {
		t.Error("the file changed")
	}
	if _, err := SetOnlineFile(path+"x", []string{"blog"}, false); err == nil {
		t.Error("SetOnlineFile of no file: no error")
	}
}

// A write by somebody who takes no lock is noticed, not overwritten.
func TestReplaceGivesWayToAnotherEditor(t *testing.T) {
	path := seedFile(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(path, info, []byte("ours"), func() error { return errChanged }); err != errChanged {
		t.Errorf("replace = %v; want errChanged", err)
	}
	if got := readFile(t, path); !bytes.Equal(got, readSeed(t)) {
		t.Errorf("the other's file became %q", got)
	}
	alone(t, path)
}

// Edits of different hosts at the same time are all in the file afterwards.
func TestSetOnlineFileTogether(t *testing.T) {
	const hosts = 16
	var file strings.Builder
	file.WriteString("domain = \"example.org\"\nstatus_page = \"https://status.example.net\"\n[hosts]\n")
	for i := range hosts {
		fmt.Fprintf(&file, "h%d = { upstream = \"10.1.1.4\" }\n", i)
	}
	path := filepath.Join(t.TempDir(), "proxy.toml")
	if err := os.WriteFile(path, []byte(file.String()), 0o640); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			if _, err := SetOnlineFile(path, []string{fmt.Sprintf("h%d", i)}, false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range c.Hosts {
		if h.Online {
			t.Errorf("the edit of %s was lost", h.Key)
		}
	}
	alone(t, path)
}

// flipperEnv makes the test binary a process that flips a host until it is
// killed, see TestMain.
const flipperEnv = "DETOUR_TEST_FLIP"

func TestMain(m *testing.M) {
	if path := os.Getenv(flipperEnv); path != "" {
		for online := false; ; online = !online {
			if _, err := SetOnlineFile(path, []string{"blog"}, online); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// kill -9 at any moment of an edit leaves the old file or the new one.
func TestKillDuringEdit(t *testing.T) {
	path := seedFile(t)
	on := readSeed(t)
	off := set(t, on, []string{"blog"}, false)
	seen := map[string]int{}
	for i := range 60 {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), flipperEnv+"="+path)
		var out bytes.Buffer
		child.Stdout = &out
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// It is at work when the file is another one; then it dies a little later each time.
		for deadline := time.Now().Add(10 * time.Second); ; {
			now, err := os.Stat(path)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("the child does not edit: %v %s", err, out.Bytes())
			}
			if !os.SameFile(before, now) {
				break
			}
		}
		time.Sleep(time.Duration(i) * 37 * time.Microsecond)
		child.Process.Kill()
		if err := child.Wait(); err == nil || out.Len() > 0 {
			t.Fatalf("child: %v %s", err, out.Bytes())
		}
		switch got := readFile(t, path); {
		case bytes.Equal(got, on):
			seen["on"]++
		case bytes.Equal(got, off):
			seen["off"]++
		default:
			t.Fatalf("after kill %d the file is neither the old nor the new one: %q", i, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
			t.Fatalf("after kill %d: mode %v, %v", i, info.Mode(), err)
		}
	}
	if len(seen) != 2 {
		t.Errorf("the file was always %v; the kills hit nothing", seen)
	}
	if _, err := SetOnlineFile(path, []string{"blog"}, false); err != nil {
		t.Errorf("an edit after the kills: %v", err)
	}
}

// The other edits replace the file in the same way.
func TestEditsOfAFile(t *testing.T) {
	path := seedFile(t)
	now := time.Date(2026, time.November, 30, 11, 0, 0, 0, time.UTC)
	add := func(host string) error {
		m := Maintenance{Hosts: []string{host}, From: now, Until: now.Add(time.Hour)}
		return EditFile(path, func(data []byte) ([]byte, error) { return AddMaintenance(path, data, m) })
	}
	if err := add("shop"); err != nil {
		t.Fatal(err)
	}
	changes, err := BringOnlineFile(path, []string{"shop", "cloud"}, now.Add(time.Minute))
	if err != nil || len(changes) != 2 || len(changes[0].Ended) != 1 || changes[1].From {
		t.Fatalf("BringOnlineFile = %+v, %v; want the window of shop and the flag of cloud", changes, err)
	}
	before := readFile(t, path)
	if err := SetAllFile(path, true, []string{"blog"}); err != nil {
		t.Fatal(err)
	}
	if c, err := Parse(path, readFile(t, path)); err != nil || !c.Offline.All || len(c.Offline.Except) != 1 {
		t.Errorf("offline.all = %+v, %v; want all but one", c, err)
	}
	if err := SetAllFile(path, false, nil); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); !bytes.Equal(got, before) {
		t.Errorf("all offline and back: %q; want %q", got, before)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode = %v, %v; want 0640", info.Mode(), err)
	}
	alone(t, path)

	for name, err := range map[string]error{
		"EditFile":   add("nobody"),
		"SetAllFile": SetAllFile(path, true, []string{"nobody"}),
	} {
		if err == nil {
			t.Errorf("%s with an unknown host: no error", name)
		}
	}
	if changes, err := BringOnlineFile(path, []string{"nobody"}, now); err == nil || changes != nil {
		t.Errorf("BringOnlineFile of an unknown host = %v, %v; want an error only", changes, err)
	}
	if got := readFile(t, path); !bytes.Equal(got, before) {
		t.Errorf("a refused edit left %q; want %q", got, before)
	}
}

// Who flips a host needs no right to read the secrets of the gateway.
func TestEditsLookAtNoOtherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.toml")
	write(t, path, "acme.token_file = \"none\"\nstatus_page = \"https://status.example.net\"\nhosts.\"a.example.org\" = { upstream = \"10.1.1.4\", online = false, cert = \"none\", key = \"none\" }\n")
	if _, err := Load(path); err == nil {
		t.Fatal("Load without the files: no error")
	}
	if _, err := BringOnlineFile(path, []string{"a.example.org"}, time.Now()); err != nil {
		t.Errorf("BringOnlineFile: %v", err)
	}
}
