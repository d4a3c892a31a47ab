package logging

import (
	"io/fs"
	"time"
)

// Rotation says when a file is set aside and how long the old ones are kept.
type Rotation struct {
	MaxSize  int64         // bytes; a file never grows beyond, unless a single line is longer. 0 = no limit
	Keep     int           // old files kept; 0 = all
	MaxAge   time.Duration // old files are removed after it, rounded up to whole days; 0 = never
	Compress bool          // old files are gzipped
	Mode     fs.FileMode   // permission bits of new, old and gzipped files whatever the umask; 0 = 0640
}

// defaultMode lets a group (adm, as a rule) read the logs: fail2ban and log
// shippers do not run as the gateway's user.
const defaultMode fs.FileMode = 0o640

// SinkOptions describe a Sink.
type SinkOptions struct {
	Path        string   // of the file; a relative one is relative to the working directory
	Name        string   // logger "http.log.access.<Name>"; "" = "http.log.access"
	Rotation    Rotation // of the file
	RedactQuery []string // names of query parameters whose values are not logged, in any case

	// Early makes the file now, in the background, instead of with its first line:
	// a place that cannot be written is found while the operator still looks.
	Early bool
}

// Sink is where a host's access log goes. It may be used by any number of
// goroutines and never makes them wait for the disk. It needs no closing;
// Files does that.
type Sink struct {
	file   *file
	name   string // `,"logger":"…","msg":"…"`
	redact redactor
}

func newSink(f *file, o SinkOptions) *Sink {
	logger := "http.log.access"
	if o.Name != "" {
		logger += "." + o.Name
	}
	name := appendString([]byte(`,"logger":`), logger, maxText)
	name = append(name, `,"msg":"handled request"`...)
	return &Sink{file: f, name: string(name), redact: newRedactor(o.RedactQuery)}
}
