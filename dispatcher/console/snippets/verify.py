import base64
import hmac
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = "whsec_…"  # the callback's signing secret goes here


def verify(headers, body, secret):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    sent = headers.get("Webhook-Timestamp", "")
    if not sent.isdecimal() or abs(time.time() - int(sent)) > 300:
        return False
    text = f"{headers.get('Webhook-Id')}.{sent}.".encode() + body
    want = b"v1," + base64.b64encode(hmac.digest(key, text, "sha256"))
    signatures = headers.get("Webhook-Signature", "").encode().split()  # two while a secret is replaced
    return any(hmac.compare_digest(one, want) for one in signatures)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))  # as it came, before anything parses it
        self.send_response(204 if verify(self.headers, body, SECRET) else 401)  # after a 204: keep it, and work on it later
        self.end_headers()


HTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()
