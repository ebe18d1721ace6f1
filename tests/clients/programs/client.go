// client URL FOLDER: net/http of Go's standard library. A line for each answer: [step, body, status].
package main

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func read(name string) *bytes.Reader {
	data, err := os.ReadFile(filepath.Join(os.Args[2], name))
	check(err)
	return bytes.NewReader(data)
}

func send(step string, body io.Reader, headers ...string) {
	request, err := http.NewRequest("POST", os.Args[1]+"/classify", body)
	check(err)
	request.Header.Set("X-Request-Id", step)
	for at := 0; at < len(headers); at += 2 {
		request.Header.Set(headers[at], headers[at+1])
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(err)
	fmt.Printf("[%q,%s,%d]\n", step, text, response.StatusCode)
}

func main() {
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	for _, name := range []string{"first.jpg", "second.jpg"} {
		part, err := writer.CreateFormFile("file", name)
		check(err)
		_, err = io.Copy(part, read(name))
		check(err)
	}
	check(writer.Close())

	send("raw", read("first.jpg"))
	send("form", &form, "Content-Type", writer.FormDataContentType())
	send("chunked", struct{ io.Reader }{read("first.jpg")}) // a reader that does not tell its length
	send("gzip", read("first.jpg.gz"), "Content-Encoding", "gzip")
	send("expect", read("first.jpg"), "Expect", "100-continue")
	send("refused", read("large"), "Expect", "100-continue")
	send("refused", read("first.jpg"))
	send("reused", read("words"))
	send("reused", read("first.jpg"))
	send("reused", read("first.jpg"))
}
