// A pod's program for the tests: `answer serve TEXT` answers every request on :8080 with TEXT,
// `answer get URL` prints the first good answer of URL or fails after 20 seconds, `answer read FILE` prints FILE.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: answer serve TEXT | get URL | read FILE")
	}
	switch os.Args[1] {
	case "serve":
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Args[2]) })
		fail(http.ListenAndServe(":8080", nil).Error())
	case "get":
		get(os.Args[2])
	case "read":
		content, err := os.ReadFile(os.Args[2])
		if err != nil {
			fail(err.Error())
		}
		fmt.Print(string(content))
	default:
		fail("unknown command " + os.Args[1])
	}
}

func get(url string) {
	client := http.Client{Timeout: 2 * time.Second}
	last := "no answer"
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		response, err := client.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err == nil && response.StatusCode == http.StatusOK {
			fmt.Print(string(body))
			return
		}
		last = response.Status
	}
	fail(last)
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
