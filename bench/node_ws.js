// Node `ws` as a fan-out, the way one would write it: an upstream, every client gets each message.
// Needs the npm package ws, which .ci/run installs at the top of the repository. Prints its port.
const { WebSocket, WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 4096 });
server.on("listening", () => console.log(server.address().port));

const upstream = new WebSocket(process.argv[2], { perMessageDeflate: false });
upstream.on("message", (data, binary) => {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
  }
});
upstream.on("close", () => process.exit(0));
