// Sign a user in by the routes of ESOZ, call the API, refresh the token. Run it as it is: `java SignIn.java` (Java 17).
import com.sun.net.httpserver.HttpServer;
import java.net.*;
import java.net.http.*;
import java.security.*;
import java.util.*;
import java.util.concurrent.CompletableFuture;
import java.util.regex.*;

class SignIn {
    static final String SERVER = System.getenv().getOrDefault("SERVER", "http://127.0.0.1:4000");
    static final int PORT = Integer.parseInt(System.getenv().getOrDefault("PORT", "3000"));
    static final String REDIRECT_URI = "http://localhost:" + PORT + "/callback";
    static final String CLIENT = "\"client_id\": \"1380df72-275a-11e7-93ae-92361f002671\", \"client_secret\": \"ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09\"";

    public static void main(String[] arguments) throws Exception {
        String verifier = random(), state = random();
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(verifier.getBytes());
        var callback = new CompletableFuture<String>();
        var listener = HttpServer.create(new InetSocketAddress("127.0.0.1", PORT), 0);
        listener.createContext("/callback", exchange -> {
            byte[] page = "Signed in. This window can be closed.".getBytes();
            exchange.sendResponseHeaders(200, page.length);
            exchange.getResponseBody().write(page);
            exchange.close();
            callback.complete(exchange.getRequestURI().getQuery());
        });
        listener.start();
        System.out.println("Open " + SERVER + "/sign-in?client_id=1380df72-275a-11e7-93ae-92361f002671&redirect_uri=" + REDIRECT_URI
            + "&scope=employee:read+connection:read&state=" + state + "&code_challenge_method=S256&code_challenge=" + base64(digest));
        String query = callback.get();
        listener.stop(0);
        if (!find("state=([^&]*)", query).equals(state)) throw new SecurityException("this answer is not for our request");

        String tokens = tokens("\"grant_type\": \"authorization_code\", \"code\": \"" + find("code=([^&]*)", query)
            + "\", \"redirect_uri\": \"" + REDIRECT_URI + "\", \"code_verifier\": \"" + verifier + "\"");
        String user = send(HttpRequest.newBuilder(URI.create(SERVER + "/oauth/user"))
            .header("Authorization", "Bearer " + find("\"value\":\"(.*?)\"", tokens)).header("API-key", "uXhEczJ56adsfh3Ri9SUkc4en"));
        System.out.println("Signed in as " + find("\"email\":\"(.*?)\"", user));
        String refresh = find("\"refresh_token\":\"(.*?)\"", tokens);
        tokens = tokens("\"grant_type\": \"refresh_token\", \"refresh_token\": \"" + refresh + "\"");
        System.out.println("Refreshed: " + find("\"value\":\"(.*?)\"", tokens));
    }

    static String tokens(String grant) throws Exception {
        var body = HttpRequest.BodyPublishers.ofString("{\"token\": {" + CLIENT + ", " + grant + "}}");
        return send(HttpRequest.newBuilder(URI.create(SERVER + "/oauth/tokens")).header("Content-Type", "application/json").POST(body));
    }

    static String send(HttpRequest.Builder request) throws Exception {
        var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 400) throw new IllegalStateException(answer.body());
        return answer.body();
    }

    static String find(String pattern, String text) { // a program of more than one page reads JSON by a library
        Matcher found = Pattern.compile(pattern).matcher(text);
        if (!found.find()) throw new NoSuchElementException(pattern + " in " + text);
        return found.group(1);
    }

    static String random() { return base64(new SecureRandom().generateSeed(32)); }

    static String base64(byte[] bytes) { return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes); }
}
