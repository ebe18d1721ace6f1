import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

/** java Client.java URL FOLDER: the JDK's HttpClient. A line for each answer: [step, body, status]. */
class Client {
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static URI uri;
    static Path folder;

    public static void main(String[] arguments) throws Exception {
        uri = URI.create(arguments[0] + "/classify");
        folder = Path.of(arguments[1]);
        byte[] photo = Files.readAllBytes(folder.resolve("first.jpg"));

        send("raw", file("first.jpg"), false);
        send("form", form("first.jpg", "second.jpg"), false, "Content-Type", "multipart/form-data; boundary=limit");
        send("chunked", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(photo)), false);
        send("gzip", file("first.jpg.gz"), false, "Content-Encoding", "gzip");
        send("expect", file("first.jpg"), true);
        // Not with expectContinue: JDK 17 then never completes an answer other than 100, whatever the server.
        send("refused", file("large"), false);
        send("refused", file("first.jpg"), false);
        send("reused", file("words"), false);
        send("reused", file("first.jpg"), false);
        send("reused", file("first.jpg"), false);
    }

    static BodyPublisher file(String name) throws Exception {
        return BodyPublishers.ofFile(folder.resolve(name));
    }

    static BodyPublisher form(String... names) throws Exception {
        var body = new ByteArrayOutputStream();
        for (String name : names) {
            String disposition = "form-data; name=\"file\"; filename=\"" + name + "\"";
            body.write(("--limit\r\nContent-Disposition: " + disposition + "\r\n\r\n").getBytes());
            body.write(Files.readAllBytes(folder.resolve(name)));
            body.write("\r\n".getBytes());
        }
        body.write("--limit--\r\n".getBytes());
        return BodyPublishers.ofByteArray(body.toByteArray());
    }

    static void send(String step, BodyPublisher body, boolean expect, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(uri).header("X-Request-Id", step).expectContinue(expect).POST(body);
        if (headers.length > 0) {
            request.headers(headers);
        }
        var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
        System.out.println("[\"" + step + "\"," + answer.body() + "," + answer.statusCode() + "]");
    }
}
