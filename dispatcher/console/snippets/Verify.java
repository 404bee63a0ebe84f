import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

class Verify {
  static final String SECRET = "whsec_…"; // the callback's signing secret goes here

  static boolean verify(Headers headers, byte[] body, String secret) throws GeneralSecurityException {
    String sent = String.valueOf(headers.getFirst("Webhook-Timestamp"));
    if (!sent.matches("[0-9]{1,12}") || Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(sent)) > 300) return false;
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret.replace("whsec_", "")), "HmacSHA256"));
    mac.update((headers.getFirst("Webhook-Id") + "." + sent + ".").getBytes());
    byte[] want = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes();
    for (String one : String.valueOf(headers.getFirst("Webhook-Signature")).split(" ")) // two while a secret is replaced
      if (MessageDigest.isEqual(one.getBytes(), want)) return true;
    return false;
  }

  public static void main(String[] args) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 9000), 0);
    server.createContext("/hook", exchange -> {
      byte[] body = exchange.getRequestBody().readAllBytes(); // as it came, before anything parses it
      boolean good = false;
      try { good = verify(exchange.getRequestHeaders(), body, SECRET); } catch (GeneralSecurityException e) { e.printStackTrace(); }
      exchange.sendResponseHeaders(good ? 204 : 401, -1); // after a 204: keep it, and work on it later
      exchange.close();
    });
    server.start();
  }
}
