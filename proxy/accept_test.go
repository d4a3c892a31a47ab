package proxy

import "testing"

func TestPreferredFormat(t *testing.T) {
	tests := []struct {
		name   string
		accept []string
		want   format
	}{
		{"absent", nil, formatText},
		{"empty", []string{""}, formatText},
		{"curl", []string{"*/*"}, formatText},
		{"Firefox", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, formatHTML},
		{"Chrome", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"}, formatHTML},
		{"jQuery", []string{"application/json, text/javascript, */*; q=0.01"}, formatJSON},
		{"axios", []string{"application/json, text/plain, */*"}, formatJSON},
		{"problem details", []string{"application/problem+json"}, formatJSON},
		{"other JSON", []string{"application/vnd.api+json"}, formatJSON},
		{"capitals", []string{"Text/HTML"}, formatHTML},
		{"weights", []string{"text/html;q=0.4, application/json;q=0.5, text/plain;q=0.3"}, formatJSON},
		{"first of equals", []string{"text/html, application/json"}, formatHTML},
		{"first of equals, turned", []string{"application/json, text/html"}, formatJSON},
		{"exact over wide", []string{"*/*, text/html"}, formatHTML},
		{"exact weight overrules wide", []string{"text/html;q=0.1, */*;q=0.5"}, formatText},
		{"exact refusal", []string{"text/plain;q=0, text/*"}, formatHTML},
		{"any text", []string{"text/*"}, formatText},
		{"any application", []string{"application/*"}, formatJSON},
		{"images", []string{"image/avif,image/webp,image/*"}, formatText},
		{"images, then anything", []string{"image/avif,image/webp,*/*;q=0.8"}, formatText},
		{"two lines", []string{"image/png", "text/html"}, formatHTML},
		{"everything refused", []string{"*/*;q=0"}, formatText},
		{"broken weight", []string{"text/html;q=high, application/json;q=0.1"}, formatJSON},
		{"noise", []string{",, ;q=1,text/html ; level=1 ; Q=1.0"}, formatHTML},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := preferredFormat(tt.accept); got != tt.want {
				t.Errorf("preferredFormat(%q) = %d; want %d", tt.accept, got, tt.want)
			}
		})
	}
}
