// What MSK's brokers do with a token, for a real broker of tests: takes one that the lookout's access key has signed with
// Signature Version 4 for this region, within its time, and says why it takes no other. It checks the signature by itself, with
// nothing of AWS's. Set as sasl.server.callback.handler.class of OAUTHBEARER.
import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

import static java.nio.charset.StandardCharsets.UTF_8;

public class MskTokens implements AuthenticateCallbackHandler {
    static final String ACCESS_KEY = "AKIDLOOKOUT", SECRET_KEY = "smoke-column", SESSION = "smoke/session+token==", REGION = "us-west-2";
    static final Duration LONGEST = Duration.ofMinutes(15), EARLY = Duration.ofMinutes(5);
    static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmssX").withZone(ZoneOffset.UTC);

    record Taken(String value, Long startTimeMs, long lifetimeMs) implements OAuthBearerToken {
        public Set<String> scope() { return Set.of(); }
        public String principalName() { return ACCESS_KEY; }
    }

    static class Refused extends Exception {
        Refused(String why) { super(why); }
    }

    @Override public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    @Override public void close() {}

    @Override public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback asked)) throw new UnsupportedCallbackException(callback);
            try {
                asked.token(taken(asked.tokenValue()));
            } catch (Refused refused) {
                asked.error(refused.getMessage(), null, null);
            } catch (Exception problem) {
                asked.error("not a signed URL: " + problem, null, null);
            }
        }
    }

    static Taken taken(String token) throws Exception {
        need(!token.contains("="), "padded");
        URI url = URI.create(new String(Base64.getUrlDecoder().decode(token), UTF_8));
        String host = "kafka." + REGION + ".amazonaws.com";
        need(host.equals(url.getHost()) && "https".equals(url.getScheme()) && "/".equals(url.getPath()), "for another region");
        Map<String, String> told = new TreeMap<>();
        for (String pair : url.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            need(told.put(parts[0], URLDecoder.decode(parts[1], UTF_8)) == null, "a parameter twice");
        }
        String signature = told.remove("X-Amz-Signature");
        need(told.remove("User-Agent").startsWith("streammanager/"), "of another program");
        need(told.keySet().equals(Set.of("Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
            "X-Amz-Security-Token")), "with parameters " + told.keySet());
        need("kafka-cluster:Connect".equals(told.get("Action")), "for another action");
        need(SESSION.equals(told.get("X-Amz-Security-Token")), "of another session");
        String date = told.get("X-Amz-Date"), day = date.substring(0, 8), scope = day + "/" + REGION + "/kafka-cluster/aws4_request";
        need((ACCESS_KEY + "/" + scope).equals(told.get("X-Amz-Credential")), "of another access key");
        Duration lasts = Duration.ofSeconds(Long.parseLong(told.get("X-Amz-Expires")));
        need(lasts.compareTo(LONGEST) <= 0, "for too long");

        String query = told.entrySet().stream().map(e -> escaped(e.getKey()) + "=" + escaped(e.getValue())).collect(Collectors.joining("&"));
        String request = String.join("\n", "GET", "/", query, "host:" + host, "", "host", hash(""));
        byte[] key = ("AWS4" + SECRET_KEY).getBytes(UTF_8);
        for (String part : new String[] {day, REGION, "kafka-cluster", "aws4_request"}) key = keyed(key, part);
        byte[] right = keyed(key, String.join("\n", "AWS4-HMAC-SHA256", date, scope, hash(request)));
        need(MessageDigest.isEqual(right, HexFormat.of().parseHex(signature)), "with a wrong signature");

        Instant made = Instant.from(TIME.parse(date)), ends = made.plus(lasts), now = Instant.now();
        need(now.isBefore(ends), "expired at " + ends);
        need(now.isAfter(made.minus(EARLY)), "signed in the future, at " + made);
        return new Taken(token, made.toEpochMilli(), ends.toEpochMilli());
    }

    static void need(boolean holds, String otherwise) throws Refused {
        if (!holds) throw new Refused("the token is " + otherwise);
    }

    static String escaped(String text) {
        return URLEncoder.encode(text, UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
    }

    static String hash(String text) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(UTF_8)));
    }

    static byte[] keyed(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(UTF_8));
    }
}
