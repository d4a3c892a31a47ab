package config

import (
	"errors"
	"time"
)

// AddMaintenanceFile appends a [[maintenance]] entry to the file at path, and
// keeps every other byte, as SetOnlineFile does. The hosts of m are keys, names
// or aliases, or "*" alone for all of them. Its times are written in whole
// seconds, with the file's time_zone offset; Line and Ended do not matter.
func AddMaintenanceFile(path string, m Maintenance) error { return errors.ErrUnsupported }

// BringOnlineFile leaves a file at path that means: these hosts are online now.
// Flags that are false become true, hosts that offline.all takes offline are
// added to offline.except, and windows that are in force at now, or in their
// drain, end for these hosts; later windows stay as they are. Every other byte
// is kept, as SetOnlineFile does.
func BringOnlineFile(path string, hosts []string, now time.Time) ([]Change, error) {
	return nil, errors.ErrUnsupported
}

// SetAllFile takes all hosts of the file at path offline but except, or ends
// that. Their flags stay untouched, so SetAllFile(path, false, nil) restores what
// was before. A nil except leaves the list of the file as it is.
func SetAllFile(path string, all bool, except []string) error { return errors.ErrUnsupported }
