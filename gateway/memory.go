package gateway

import (
	"runtime/debug"

	"detour/engine/memory"
)

// workMemory is for what is on its way.
func workMemory() *memory.Budget { return memory.NewBudget(debug.SetMemoryLimit(-1)) }
