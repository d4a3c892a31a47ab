# Every task in one line; nothing here that cannot be typed by hand.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PACKAGES    := ./... ./test/...
FUZZED      := ./...
FUZZTIME    := 20s

build:  ## the program, static and small
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o detour ./cmd/detour

test:   ## every test
	go test $(PACKAGES)

race:   ## the same, watched for data races
	go test -race $(PACKAGES)

lint:   ## vet, gofmt and the short list in staticcheck.conf
	go vet $(PACKAGES)
	go vet -tags profile ./bench/profile
	test -z "$$(gofmt -l .)"
	go run $(STATICCHECK) $(PACKAGES)

fuzz:   ## every fuzzer for FUZZTIME
	@go list $(FUZZED) | while read -r pkg; do \
		go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' | while read -r f; do \
			echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$pkg" || exit 1; \
		done || exit 1; \
	done

bench:  ## side by side with the peers that are installed
	bench/run

deb:    ## packages for amd64 and arm64 in dist/
	packaging/build

help:
	@grep -hE '^[a-z]+: ' Makefile

.PHONY: build test race lint fuzz bench deb help
