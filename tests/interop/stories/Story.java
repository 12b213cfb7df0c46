import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A service on the JDK's own HttpClient, which offers an upgrade to HTTP/2 with its first request. The JDK signs no
 * Ethereum transactions: it is given them signed, in the order of their nonces, and where the contract will be.
 */
public class Story {
    static final String ONE_ETHER = "0xde0b6b3a7640000", QUARTER = "0x3782dace9d90000";
    static final String ZERO_HASH = "\"blockHash\":\"0x" + "0".repeat(64) + "\"";
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static final List<String> HEARD = new CopyOnWriteArrayList<>();
    static int preconfirmed = 0;

    interface Step {
        void run() throws Exception;
    }

    static class Unexpected extends Exception {
        Unexpected(String message) {
            super(message);
        }
    }

    static String given(String name) {
        return System.getenv("STORY_" + name);
    }

    // --- JSON-RPC, as text: the JDK has no JSON either ---

    static String call(String method, String parameters) throws Exception {
        String body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" + method + "\",\"params\":[" + parameters + "]}";
        HttpRequest request = HttpRequest.newBuilder(URI.create(given("RPC")))
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        return CLIENT.send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    /** The value of a member, as text; null if there is none, or it is null. */
    static String member(String json, String name) {
        Matcher matcher = Pattern.compile("\"" + name + "\":\\s*(\"([^\"]*)\"|[{\\[])").matcher(json);
        return matcher.find() ? (matcher.group(2) == null ? "" : matcher.group(2)) : null;
    }

    static String quoted(String... texts) {
        return "\"" + String.join("\",\"", texts) + "\"";
    }

    static String result(String method, String... parameters) throws Exception {
        String answer = call(method, quoted(parameters)), result = member(answer, "result");
        if (result == null) {
            throw new Unexpected(method + ": expected a result, saw " + answer);
        }
        return result;
    }

    static String send(String name) throws Exception {
        return result("eth_sendRawTransaction", given(name));
    }

    /** The answer with the receipt, asked for every 20 ms. */
    static String receipt(String hash) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (System.nanoTime() < deadline) {
            String answer = call("eth_getTransactionReceipt", quoted(hash));
            if (member(answer, "status") != null) {
                preconfirmed += answer.contains(ZERO_HASH) ? 1 : 0;
                return answer;
            }
            Thread.sleep(20);
        }
        throw new Unexpected("expected a receipt of " + hash + " within 30 s, saw none");
    }

    static String toProbe(String data) {
        return "{\"to\":\"" + given("PROBE_ADDRESS") + "\",\"data\":\"" + data + "\"}";
    }

    /** count() without a block, as a caller writes it who wants what is true now. */
    static String counted() throws Exception {
        return result0(call("eth_call", toProbe("0x06661abd")));
    }

    static String result0(String answer) throws Exception {
        String result = member(answer, "result");
        if (result == null) {
            throw new Unexpected("eth_call: expected a result, saw " + answer);
        }
        return result;
    }

    static String word(int value) {
        return String.format("0x%064x", value);
    }

    // --- what is expected ---

    static void expect(String what, String seen, String expected) throws Unexpected {
        if (!expected.equals(seen)) {
            throw new Unexpected(what + ": expected " + expected + ", saw " + seen);
        }
    }

    static void expectText(String what, String seen, String part) throws Unexpected {
        if (seen == null || !seen.contains(part)) {
            throw new Unexpected(what + ": expected '" + part + "' in it, saw " + seen);
        }
    }

    static void expectHeard(String what, String... parts) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (System.nanoTime() < deadline) {
            for (String message : HEARD) {
                boolean isIt = true;
                for (String part : parts) {
                    isIt &= message.contains(part);
                }
                if (isIt) {
                    return;
                }
            }
            Thread.sleep(20);
        }
        throw new Unexpected(what + ": expected " + String.join(" ", parts) + " within 30 s, saw " + HEARD);
    }

    static void step(String name, Step step) {
        try {
            step.run();
        } catch (Exception error) {
            System.err.println("step " + name + ": " + (error instanceof Unexpected ? error.getMessage() : error));
            System.exit(1);
        }
        System.out.println("{\"step\":\"" + name + "\",\"preconfirmed\":" + preconfirmed + "}");
    }

    // --- the story ---

    static void deploy() throws Exception {
        expect("chain id", result("eth_chainId", new String[0]), given("CHAIN_ID_HEX"));
        String receipt = receipt(send("DEPLOY"));
        expect("status", member(receipt, "status"), "0x1");
        expect("contract address", member(receipt, "contractAddress"), given("PROBE_ADDRESS"));
    }

    static void useAtOnce() throws Exception {
        expect("count()", counted(), word(0));
        for (int round = 1; round <= 2; round++) {
            String receipt = receipt(send("INCREMENT_" + round));
            expect("status", member(receipt, "status"), "0x1");
            expect("count()", counted(), word(round));
        }
        String estimate = call("eth_estimateGas", toProbe("0xd09de08a"));
        expectText("eth_estimateGas", estimate, "\"result\":\"0x");
    }

    static void spend() throws Exception {
        receipt(send("FUND"));
        expect("balance of the fresh account", result("eth_getBalance", given("FRESH"), "latest"), ONE_ETHER);
        expect("status", member(receipt(send("SPEND")), "status"), "0x1");
        expect("balance of who was paid", result("eth_getBalance", given("LAST"), "latest"), QUARTER);
        expect("nonce", result("eth_getTransactionCount", given("FRESH"), "latest"), "0x1");
    }

    static void revert() throws Exception {
        String hash = send("REFUSE"), receipt = receipt(hash);
        expect("status", member(receipt, "status"), "0x0");
        String number = member(receipt, "blockNumber");
        String again = call("eth_call", toProbe(given("REFUSE_DATA")) + ",\"" + number + "\"");
        expectText("the call again at its block", again, given("REASON"));
        String traced = call("debug_traceTransaction", "\"" + hash + "\",{\"tracer\":\"callTracer\"}");
        expect("revertReason of its trace", member(traced, "revertReason"), given("REASON"));
    }

    static void subscriptions() throws Exception {
        WebSocket live = CLIENT.newWebSocketBuilder().buildAsync(URI.create(given("WS")), new Listener()).join();
        String[] kinds = {
            "\"newHeads\"", "\"logs\",{\"address\":\"" + given("PROBE_ADDRESS") + "\"}", "\"newPendingTransactions\"",
        };
        for (int kind = 0; kind < kinds.length; kind++) {
            live.sendText("{\"jsonrpc\":\"2.0\",\"id\":" + (100 + kind)
                + ",\"method\":\"eth_subscribe\",\"params\":[" + kinds[kind] + "]}", true).join();
            expectHeard("answer to eth_subscribe of " + kinds[kind], "\"id\":" + (100 + kind), "\"result\":\"0x");
        }
        String hash = send("INCREMENT_3"), receipt = receipt(hash);
        expectHeard("a pending transaction", "eth_subscription", "\"result\":\"" + hash + "\"");
        expectHeard("a log", "eth_subscription", "\"transactionHash\":\"" + hash + "\"");
        expectHeard("a head", "eth_subscription", "\"number\":\"" + member(receipt, "blockNumber") + "\"");
        live.abort();
    }

    static class Listener implements WebSocket.Listener {
        private final StringBuilder parts = new StringBuilder();

        @Override
        public CompletionStage<?> onText(WebSocket live, CharSequence data, boolean isLast) {
            parts.append(data);
            if (isLast) {
                HEARD.add(parts.toString());
                parts.setLength(0);
            }
            live.request(1);
            return null;
        }
    }

    static void replacement() throws Exception {
        String first = send("NEXT_FIRST");
        String cheap = call("eth_sendRawTransaction", quoted(given("NEXT_CHEAP")));
        expectText("a replacement at the same price", cheap, "replacement transaction underpriced");
        String second = send("NEXT_SECOND");
        send("MISSING");
        expect("status", member(receipt(second), "status"), "0x1");
        String gone = call("eth_getTransactionReceipt", quoted(first));
        expectText("receipt of what was replaced", gone, "\"result\":null");
    }

    public static void main(String[] arguments) {
        step("deploy", Story::deploy);
        step("use at once", Story::useAtOnce);
        step("spend what was just preconfirmed", Story::spend);
        step("revert reason of a preconfirmed transaction", Story::revert);
        step("subscriptions", Story::subscriptions);
        step("replacement", Story::replacement);
        System.exit(0);
    }
}
