// Surfaces over HTTP, with the JDK alone, 17 or newer: java Client.java ADDRESS FILE.

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;

public final class Client {
    /** Sampled surfaces: the header volvae-shape is count, tenor, node; the body their vols as float32, little-endian. */
    static HttpResponse<byte[]> sample(String address, int count, long seed) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(address + "/sample"))
                .header("Content-Type", "application/json")
                .header("Accept", "application/octet-stream")
                .POST(HttpRequest.BodyPublishers.ofString("{\"count\": " + count + ", \"seed\": " + seed + "}"))
                .build();
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpResponse<byte[]> answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
        if (answer.statusCode() != 200) {
            throw new IOException(new String(answer.body()));
        }
        return answer;
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        HttpResponse<byte[]> answer = sample(arguments[0], 3, 7);
        Files.write(Path.of(arguments[1]), answer.body());
        System.out.println(answer.headers().firstValue("volvae-shape").orElseThrow().replace(',', ' '));
    }
}
