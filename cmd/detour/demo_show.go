package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The demonstration's hosts, as its proxy.toml makes them.
const (
	shopHost = "shop.localhost"
	blogHost = "blog.localhost"
)

// show makes the requests a visitor would make and prints what came back. It
// fails when an answer is not what the demonstration promises.
func (d *demo) show(ctx context.Context) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	fmt.Fprintf(d.stdout, `A gateway on %s, and behind it

  %s   online    a small service on %s
  %s   offline   its visitors go to http://%s

What visitors get:

`, d.gateway.HTTPSAddr(), shopHost, d.services.shop.address(), blogHost, d.services.status.address())
	if err := d.visit(ctx, client, shopHost, "/", http.StatusOK); err != nil {
		return err
	}
	if err := d.visit(ctx, client, blogHost, "/post/1?page=2", http.StatusFound); err != nil {
		return err
	}
	if err := d.flipDuringDownload(ctx, client); err != nil {
		return err
	}
	return d.visit(ctx, client, blogHost, "/post/1?page=2", http.StatusOK)
}

// visit makes one request and prints a line about it.
func (d *demo) visit(ctx context.Context, client *http.Client, host, uri string, want int) error {
	resp, err := get(ctx, client, d.url(host, uri))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // our own services answer a line
	if err != nil {
		return err
	}
	answer := strings.TrimSpace(string(body))
	if location := resp.Header.Get("Location"); location != "" {
		answer = "go to " + location
	}
	fmt.Fprintf(d.stdout, "  GET %s\n      %s %d  %s\n", d.url(host, uri), resp.Proto, resp.StatusCode, printable(answer))
	if resp.StatusCode != want {
		return fmt.Errorf("GET %s: status %d; expected %d", d.url(host, uri), resp.StatusCode, want)
	}
	return nil
}

// flipDuringDownload brings the blog online while the shop sends a file, and
// counts what of the file arrives.
func (d *demo) flipDuringDownload(ctx context.Context, client *http.Client) error {
	resp, err := get(ctx, client, d.url(shopHost, "/download"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() {
		return errors.Join(errors.New("the download did not begin"), lines.Err())
	}
	fmt.Fprintf(d.stdout, "\nA download from the shop is running. Meanwhile:\n\n  $ detour online blog\n  ")
	if err := d.online(ctx, d.config, []string{"blog"}, false); err != nil {
		return err
	}
	arrived := 1
	for lines.Scan() {
		arrived++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the download broke: %w", err)
	}
	fmt.Fprintf(d.stdout, "\nThe download never noticed: %d of %d lines arrived. And the blog is back:\n\n", arrived, downloadLines)
	if arrived != downloadLines {
		return fmt.Errorf("the download broke: %d of %d lines arrived", arrived, downloadLines)
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}
