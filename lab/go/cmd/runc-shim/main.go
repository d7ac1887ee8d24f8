// Command runc-shim stands before runc on hosts whose bounding set lacks
// CAP_SYS_RESOURCE. There runc can neither grant that capability nor lower an
// OOM score, so both wishes are taken out of what it is asked to run.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const missing = "CAP_SYS_RESOURCE"

// runc is where Debian puts the real one; RUNC_SHIM_RUNC names another.
const runc = "/usr/sbin/runc"

func main() {
	if err := rewrite(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "runc-shim: %v\n", err)
		os.Exit(1)
	}
	target := runc
	if other := os.Getenv("RUNC_SHIM_RUNC"); other != "" {
		target = other
	}
	err := syscall.Exec(target, append([]string{"runc"}, os.Args[1:]...), os.Environ())
	fmt.Fprintf(os.Stderr, "runc-shim: exec %s: %v\n", target, err)
	os.Exit(1)
}

// rewrite edits the bundle's config.json (create, run) or the process file (exec) that the arguments name.
func rewrite(args []string) error {
	for i, arg := range args {
		name, value, inline := strings.Cut(arg, "=")
		if !inline && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "--bundle", "-b":
			return edit(filepath.Join(value, "config.json"), func(spec map[string]any) bool {
				process, ok := spec["process"].(map[string]any)
				return ok && relax(process)
			})
		case "--process", "-p":
			return edit(value, relax)
		}
	}
	return nil
}

// relax reports whether it changed the process.
func relax(process map[string]any) bool {
	changed := false
	if score, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(score.String(), "-") {
		process["oomScoreAdj"] = 0
		changed = true
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		held, _ := set.([]any)
		kept := make([]any, 0, len(held))
		for _, capability := range held {
			if capability != missing {
				kept = append(kept, capability)
			}
		}
		if len(kept) != len(held) {
			sets[name] = kept
			changed = true
		}
	}
	return changed
}

func edit(path string, change func(map[string]any) bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // device numbers and limits must survive unrounded
	var document map[string]any
	if err := decoder.Decode(&document); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !change(document) {
		return nil
	}
	text, err = json.Marshal(document)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, info.Mode().Perm())
}
