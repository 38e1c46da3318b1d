// Serves the page on two origins of its own and opens it in a headless browser on each. Prints what the page found.
//
//   node serve.js BROWSER FOLDER FRIEND-PORT STRANGER-PORT GATEWAY

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [browser, folder, friend, stranger, gateway] = process.argv.slice(2);
const files = {
  "/": ["text/html", '<!doctype html><script type="module" src="page.js"></script>'],
  "/page.js": ["text/javascript", readFileSync(join(folder, "page.js"))],
  "/library.binpb": ["application/octet-stream", readFileSync(join(folder, "library.binpb"))],
};

// Resolves with what the page at that port found.
function visit(port, query) {
  return new Promise((done, fail) => {
    const profile = mkdtempSync(join(tmpdir(), "portico-browser-"));
    const server = createServer(async (request, response) => {
      const path = request.url.split("?")[0];
      if (path === "/result") {
        const chunks = await request.toArray();
        response.end();
        finish(() => done(JSON.parse(Buffer.concat(chunks))));
      } else if (files[path]) {
        response.setHeader("content-type", files[path][0]).end(files[path][1]);
      } else {
        response.writeHead(404).end();
      }
    });
    let page;
    const timer = setTimeout(() => finish(() => fail(new Error("the page says nothing"))), 90_000);
    function finish(then) {
      clearTimeout(timer);
      server.close();
      server.closeAllConnections();
      page?.removeAllListeners("exit");
      page?.once("exit", () => {
        rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
        then();
      });
      // Its children too: they would write into the profile while it is removed.
      if (page?.pid) process.kill(-page.pid, "SIGKILL");
    }
    server.listen(port, "127.0.0.1", () => {
      const url = `http://127.0.0.1:${port}/?gateway=${encodeURIComponent(gateway)}${query}`;
      const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"];
      page = spawn(browser, [...quiet, `--user-data-dir=${profile}`, url], { stdio: "ignore", detached: true });
      page.on("error", fail);
      page.once("exit", (code) => fail(new Error(`the browser ended with ${code} before the page was done`)));
    });
  });
}

const found = { ...(await visit(friend, "")), ...(await visit(stranger, "&stranger")) };
for (const [name, result] of Object.entries(found)) console.log(`browser ${name} ... ${result}`);
process.exitCode = Object.values(found).every((result) => result === "ok") ? 0 : 1;
