//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// site is what every contestant is told to serve: Hosts forwarded to one
// backend over kept-alive connections, OfflineHost redirected to the status
// page, TLS 1.3 with one certificate, compression, JSON access logs in files.
// Each is configured as its manual says for such a site; where a default would
// make it do other work than the rest, the configuration says why it is set.
type site struct {
	Dir       string // configuration, scratch files and Dir/log
	Addr      string // 127.0.0.1:port, for TCP and UDP
	Backend   string // host:port, plain HTTP/1.1
	Cert, Key string // PEM files
	Hosts     []string
}

const (
	zone        = "bench.test"
	onlineHost  = "www." + zone
	offlineHost = "off." + zone
	statusPage  = "https://status.example.org"
)

func (s site) OfflineHost() string { return offlineHost }
func (s site) StatusPage() string  { return statusPage }
func (s site) Root() bool          { return os.Getuid() == 0 }
func (s site) Port() string        { return s.Addr[strings.LastIndexByte(s.Addr, ':')+1:] }

// write renders a configuration into the site's directory.
func (s site) write(name, text string) (string, error) {
	t, err := template.New(name).Parse(text)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.Dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := t.Execute(f, s); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, f.Close()
}

func configureDetour(s site) ([]string, error) { return configureEngine(s, "detour") }

// configureNetHTTP is the same on the standard library's server and transport.
func configureNetHTTP(s site) ([]string, error) { return configureEngine(s, "net/http") }

func configureEngine(s site, engine string) ([]string, error) {
	path, err := s.write("proxy.toml", `
status_page = "{{.StatusPage}}{uri}"

[listen]
engine = "`+engine+`"
http = ""
https = "{{.Addr}}"

[acme]
ca = "local"
storage = "{{.Dir}}/storage"

[log]
dir = "{{.Dir}}/log"
max_size = "100GiB" # no rotation while measuring

[offline]
answer = "redirect" # as the peers do

[control]
socket = "{{.Dir}}/control.sock"

[hosts]
"{{.OfflineHost}}" = { upstream = "{{.Backend}}", online = false, cert = "{{.Cert}}", key = "{{.Key}}" }
{{- range .Hosts}}
"{{.}}" = { upstream = "{{$.Backend}}", cert = "{{$.Cert}}", key = "{{$.Key}}" }
{{- end}}
`)
	return []string{"run", "--config", path}, err
}

func configureNginx(s site) ([]string, error) {
	path, err := s.write("nginx.conf", `
{{if .Root}}user root;{{end}}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/error.log;
events { worker_connections 16384; }
http {
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path       {{.Dir}}/proxy;
	fastcgi_temp_path     {{.Dir}}/fastcgi;
	uwsgi_temp_path       {{.Dir}}/uwsgi;
	scgi_temp_path        {{.Dir}}/scgi;

	log_format json escape=json '{"ts":$msec,"remote_ip":"$remote_addr","proto":"$server_protocol","method":"$request_method",'
		'"host":"$host","uri":"$request_uri","user_agent":"$http_user_agent","referer":"$http_referer","tls":"$ssl_protocol","cipher":"$ssl_cipher",'
		'"status":$status,"size":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_addr","encoding":"$sent_http_content_encoding"}';

	ssl_certificate     {{.Cert}};
	ssl_certificate_key {{.Key}};
	ssl_protocols TLSv1.3;
	keepalive_timeout 300s;
	keepalive_requests 1000000000; # no client is sent away in the middle
	server_names_hash_max_size 8192;
	server_names_hash_bucket_size 128;

	gzip on;
	gzip_proxied any;
	gzip_vary on;
	gzip_min_length 512;
	gzip_types text/css text/plain application/javascript application/json image/svg+xml;

	upstream app {
		server {{.Backend}};
		keepalive 256;
		keepalive_requests 1000000000;
	}
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
	proxy_http_version 1.1;
	proxy_set_header Host $host;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Proto $scheme;
	proxy_set_header X-Forwarded-Host $host;
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header Connection $connection_upgrade;
	proxy_request_buffering off;  # nobody else writes uploads to disk
	proxy_max_temp_file_size 0;   # nor downloads
	client_max_body_size 0;

	server {
		listen {{.Addr}} ssl http2 backlog=4096;
		server_name {{.OfflineHost}};
		access_log {{.Dir}}/log/{{.OfflineHost}}.log json buffer=64k flush=1s;
		location / { return 302 {{.StatusPage}}$request_uri; }
	}
{{- range .Hosts}}
	server {
		listen {{$.Addr}} ssl http2;
		server_name {{.}};
		access_log {{$.Dir}}/log/{{.}}.log json buffer=64k flush=1s;
		location / { proxy_pass http://app; }
	}
{{- end}}
}
`)
	return []string{"-p", s.Dir, "-e", filepath.Join(s.Dir, "error.log"), "-c", path}, err
}

// configureHAProxy: it has no log file a host; its one log goes to stdout,
// which is a file here.
func configureHAProxy(s site) ([]string, error) {
	if _, err := s.write("hosts.map", "{{range .Hosts}}{{.}} app\n{{end}}"); err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(s.Cert)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(s.Key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "pair.pem"), append(cert, key...), 0o600); err != nil {
		return nil, err
	}
	path, err := s.write("haproxy.cfg", `
global
	nbthread 1
	maxconn 9000
	log stdout format raw daemon
	ssl-default-bind-options ssl-min-ver TLSv1.3
	# its own order puts AES-256 first; everybody else takes AES-128 with these clients
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256

defaults
	mode http
	log global
	timeout connect 3s
	timeout client 300s
	timeout server 60s
	timeout tunnel 1h
	http-reuse always
	log-format '{"ts":%Ts.%ms,"remote_ip":"%ci","proto":"%HV","method":"%HM","host":"%[capture.req.hdr(0),json(utf8s)]","uri":"%[capture.req.uri,json(utf8s)]","user_agent":"%[capture.req.hdr(1),json(utf8s)]","referer":"%[capture.req.hdr(2),json(utf8s)]","tls":"%sslv","cipher":"%sslc","status":%ST,"size":%B,"duration":%Ta,"upstream":"%si:%sp","encoding":"%[capture.res.hdr(0),json(utf8s)]"}'

frontend https
	bind {{.Addr}} ssl crt {{.Dir}}/pair.pem alpn h2,http/1.1
	declare capture request len 128
	declare capture request len 256
	declare capture request len 256
	declare capture response len 16
	http-request capture hdr(host) id 0
	http-request capture hdr(user-agent) id 1
	http-request capture hdr(referer) id 2
	http-response capture res.hdr(content-encoding) id 0
	http-request redirect code 302 prefix {{.StatusPage}} if { hdr(host) -i {{.OfflineHost}} }
	option forwardfor
	http-request set-header X-Forwarded-Proto https
	http-request set-header X-Forwarded-Host %[req.hdr(host)]
	compression algo gzip
	compression type text/html text/css text/plain application/javascript application/json image/svg+xml
	use_backend %[req.hdr(host),lower,map({{.Dir}}/hosts.map)]

backend app
	server app {{.Backend}}
`)
	return []string{"-db", "-f", path}, err
}

func configureCaddy(s site) ([]string, error) {
	path, err := s.write("Caddyfile", `
{
	admin off
	auto_https off
	storage file_system {{.Dir}}/storage
	default_bind 127.0.0.1
	skip_install_trust
	log {
		output file {{.Dir}}/caddy.log
		exclude http.log.access
	}
}
(app) {
	tls {{.Cert}} {{.Key}} {
		protocols tls1.3
	}
	encode zstd gzip
	reverse_proxy {{.Backend}} {
		transport http {
			keepalive_idle_conns_per_host 256 # the default of 32 would dial anew all the time
		}
	}
}
https://{{.OfflineHost}}:{{.Port}} {
	tls {{.Cert}} {{.Key}} {
		protocols tls1.3
	}
	redir {{.StatusPage}}{uri} 302
	log {
		output file {{.Dir}}/log/{{.OfflineHost}}.log {
			roll_disabled
		}
	}
}
{{- range .Hosts}}
https://{{.}}:{{$.Port}} {
	import app
	log {
		output file {{$.Dir}}/log/{{.}}.log {
			roll_disabled
		}
	}
}
{{- end}}
`)
	return []string{"run", "--config", path, "--adapter", "caddyfile"}, err
}
