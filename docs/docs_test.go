package docs_test

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	code    = regexp.MustCompile("(?ms)^```(\\w*)\n.*?^```$")
	shape   = regexp.MustCompile("(?m)^(#+ |```\\w*$)")
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_\n# -]`) // from headings, in GitHub's anchors
	link    = regexp.MustCompile(`\]\(([^)\s:]+)\)`)    // within the project
	twins   = strings.NewReplacer("en/", "zh/", "zh/", "en/", "README.md", "README.zh-CN.md", "README.zh-CN.md", "README.md")
	fronts  = map[string]string{"en": "../README.md", "zh": "../README.zh-CN.md"}
)

// read returns a page, with nothing of its code blocks but the language.
func read(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return code.ReplaceAllString(string(text), "```$1")
}

// TestPages checks that a page has the same headings and code blocks in both
// languages, is linked from its README, and links to what exists.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("??/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("found %d pages: %v", len(pages), err)
	}
	for _, page := range append(pages, fronts["en"], fronts["zh"]) {
		text, twin := read(t, page), twins.Replace(page)
		if got, want := shape.FindAllString(text, -1), shape.FindAllString(read(t, twin), -1); !slices.Equal(got, want) {
			t.Errorf("headings and code blocks of %s are\n%q, of %s\n%q", page, got, twin, want)
		}
		if front := fronts[page[:2]]; front != "" && !strings.Contains(read(t, front), "](docs/"+page+")") {
			t.Errorf("%s does not link to docs/%s", front, page)
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(page), cmp.Or(file, filepath.Base(page)))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && !strings.Contains(anchors(read(t, target)), "#-"+anchor+"\n") {
				t.Errorf("%s links to %s, but no heading there has that anchor", page, m[1])
			}
		}
	}
}

// routes are the first cells of the table under a heading of a page, but for what
// explains them.
func routes(t *testing.T, page, heading string) (all []string) {
	t.Helper()
	_, section, found := strings.Cut(read(t, page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %s", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, _ := strings.Cut(section, "\n|---|")
	for line := range strings.Lines(table) {
		cell, inTable := strings.CutPrefix(line, "| ")
		if !inTable && len(all) > 0 {
			break
		}
		if cell, _, inTable = strings.Cut(cell, " "); inTable {
			all = append(all, cell)
		}
	}
	return all
}

// TestSources checks that each route says which of WeChat's pages it goes by.
func TestSources(t *testing.T) {
	for page, headings := range map[string][2]string{
		"en/http-api.md": {"All routes", "Sources"},
		"zh/http-api.md": {"全部路由", "依据的文档"},
	} {
		want, got := routes(t, page, headings[0]), routes(t, page, headings[1])
		if len(want) < 30 || !slices.Equal(got, want) {
			t.Errorf("%s has sources of\n%q, and the routes\n%q", page, got, want)
		}
	}
}

// anchors returns a page whose headings are written as the anchors to them.
func anchors(text string) string {
	return strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}
