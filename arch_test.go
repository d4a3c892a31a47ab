package detour_test

import (
	"debug/elf"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms is the picture of docs/architecture.md: which rooms each room may
// import. A room's sub-packages count as the room. A new room must be drawn
// here first.
var rooms = map[string][]string{
	"cmd":     {"gateway", "config", "control", "logging"},
	"gateway": {"config", "proxy", "acme", "control", "logging", "engine", "state", "notify"},
	"proxy":   {"logging", "engine"},
	"acme":    {},
	"control": {},
	"config":  {"state"},
	"logging": {},
	"engine":  {},
	"state":   {},
	"notify":  {},
}

const module = "detour"

func TestImportsOnlyGoDown(t *testing.T) {
	eachGoFile(t, func(path string, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		room, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s: room %q is not in the picture", path, room)
			return
		}
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			rest, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			to, _, _ := strings.Cut(rest, "/")
			if to != room && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s; %s may import only %v", path, imported, room, allowed)
			}
		}
	})
}

func TestNoInitFunctions(t *testing.T) {
	eachGoFile(t, func(path string, f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init; pass what it sets as a value instead", path)
			}
		}
	})
}

// Package unsafe is for one thing: the address that a system call of engine/socket
// is given.
func TestUnsafeInOnePlace(t *testing.T) {
	eachGoFile(t, func(path string, f *ast.File) {
		for _, spec := range f.Imports {
			if spec.Path.Value == `"unsafe"` && filepath.ToSlash(path) != "engine/socket/raw.go" {
				t.Errorf("%s imports unsafe", path)
			}
		}
	})
}

// A template may call any method by its name, so with one the linker keeps every
// method of every type: 3 MiB more of binary, and of memory. Libraries have some,
// which are left out unless something of ours sets one.
func TestNoTemplates(t *testing.T) {
	program := filepath.Join(t.TempDir(), "detour")
	build := exec.Command("go", "build", "-o", program, "./cmd/detour")
	build.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil || len(symbols) == 0 {
		t.Fatalf("%d symbols, %v", len(symbols), err)
	}
	for _, s := range symbols {
		if s.Name == "text/template.(*Template).execute" {
			t.Error("something calls templates: go build -ldflags=-dumpdep ./cmd/detour 2>&1 | grep '(.Template).execute' says what")
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	eachGoFile(t, func(path string, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		dir := filepath.Dir(path)
		want := "Package " + f.Name.Name + " "
		if f.Name.Name == "main" {
			want = "Command "
		}
		documented[dir] = documented[dir] || f.Doc != nil && strings.HasPrefix(f.Doc.Text(), want)
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// eachGoFile calls visit with every Go file of the product; test/ is a module
// of its own and may import what it likes.
func eachGoFile(t *testing.T, visit func(path string, f *ast.File)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == "test" || path == "bench" || path == "packaging" || path != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || !strings.Contains(path, string(filepath.Separator)) {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		seen++
		visit(path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no Go file found")
	}
}
