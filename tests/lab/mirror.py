#!/usr/bin/env python3
"""The lab's download site: mirror.py ADDRESS CACHE PEM PIDFILE

Serves, on ports 80 and 443 of ADDRESS,
  /SITE/PATH          a fixture under the path its upstream uses (SITES below)
  /files/NAME         a file of the cache's folder fixtures
  /pypi/simple/NAME/  the wheels of fixtures/pypi as a package index (PEP 503)
  /apt-SUITE/FILE     the packages of the web image as an apt repository
and the same files with a fault when the path begins with
  /status/N/…         answers with status N
  /truncate/N/…       ends N bytes on, though more were announced (so a client that resumes gets there)
  /slow/N/…           N bytes a second
  /corrupt/…          the last byte is another one
  /html/…             a web page instead of the file
  /norange/…          always the whole file
  /endless/           never ends
  /redirect/…         redirects to the same without /redirect
  /redirect-file/     redirects to a file: address
  /redirect-loop/     redirects to itself
One line a request goes to requests.log beside PIDFILE: METHOD PATH RANGE STATUS.
"""
import http.server, os, re, socketserver, ssl, sys, threading, time, urllib.parse

ADDRESS, CACHE, PEM, PIDFILE = sys.argv[1:5]
# Where upstream keeps its releases. What comes from Debian may be packed with xz under the same name: a reader must look, not guess.
SITES = re.compile(
    r"/wordpress\.org/(wordpress-[\d.]+\.tar\.gz)"
    r"|/releases\.wikimedia\.org/mediawiki/[\d.]+/(mediawiki-[\d.]+\.tar\.gz(?:\.sig)?)"
    r"|/download\.dokuwiki\.org/src/dokuwiki/(dokuwiki-[\da-z-]+\.tgz)"
    r"|/files/([^/]+)"
)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    # Else each answer waits forty milliseconds for the acknowledgement of its own head.
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def log_request(self, code="-", size="-"):
        with open(os.path.join(os.path.dirname(PIDFILE), "requests.log"), "a") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('Range', '-')} {int(code)}\n")

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path, fault, number = urllib.parse.unquote(self.path.split("?")[0]), None, 0
        if found := re.match(r"/(status|truncate|slow)/(\d+)(/.*)$", path):
            fault, number, path = found[1], int(found[2]), found[3]
        elif found := re.match(r"/(corrupt|html|norange|redirect)(/.*)$", path):
            fault, path = found[1], found[2]
        if fault == "status":
            return self.whole(number, b"no\n", "text/plain", body)
        if fault == "html":
            return self.whole(200, b"<!DOCTYPE html><html><body>Please log in</body></html>\n", "text/html", body)
        if fault == "redirect":
            return self.redirect(path)
        if path == "/redirect-file/":
            return self.redirect("file:///etc/passwd")
        if path == "/redirect-loop/":
            return self.redirect(path)
        if path == "/endless/":
            return self.endless(body)
        if page := self.index(path):
            return self.whole(200, page, "text/html", body)
        file = self.find(path)
        if not file:
            return self.whole(404, b"not found\n", "text/plain", body)
        self.file(file, fault, number, body)

    def find(self, path):
        root = os.path.join(CACHE, "fixtures")
        if found := SITES.fullmatch(path):
            file = os.path.join(root, found[found.lastindex])
            if not os.path.isfile(file):
                file = file.removesuffix(".gz") + ".xz"
        elif path.startswith("/pypi/files/"):
            file = os.path.join(root, "pypi", os.path.basename(path))
        elif re.match(r"/apt-[a-z]+/[^/]", path):
            file = os.path.join(CACHE, path.split("/")[1], os.path.basename(path))
        else:
            return None
        return file if os.path.isfile(file) else None

    def index(self, path):
        found = re.match(r"/pypi/simple/([^/]+)/?$", path)
        if not found:
            return None
        normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
        wheels = sorted(os.listdir(os.path.join(CACHE, "fixtures", "pypi")))
        mine = [w for w in wheels if normal(w.split("-")[0]) == normal(found[1])]
        links = "".join(f'<a href="/pypi/files/{w}">{w}</a>\n' for w in mine)
        return f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode() if mine else None

    def whole(self, status, data, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def endless(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        while body:
            self.wfile.write(b"\x1f\x8b" + bytes(65534))

    def file(self, file, fault, number, body):
        size, mtime = os.path.getsize(file), int(os.path.getmtime(file))
        etag, start = f'"{size:x}-{mtime:x}"', 0
        asked = re.match(r"bytes=(\d*)-(\d*)$", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in (None, etag)
        end = size
        if asked and any(asked.groups()) and unchanged and fault != "norange":
            first, last = asked.groups()
            start = int(first) if first else max(size - int(last), 0)
            end = min(int(last) + 1, size) if first and last else size
            if start >= end:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", etag)
        if fault != "norange":
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return
        with open(file, "rb") as data:
            data.seek(start)
            sent, step = 0, number if fault == "slow" and number else 1 << 16
            while chunk := data.read(min(step, end - start - sent)):
                if fault == "truncate" and sent + len(chunk) > number:
                    self.wfile.write(chunk[: number - sent])
                    self.close_connection = True
                    return
                if fault == "corrupt" and data.tell() == size:
                    chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
                self.wfile.write(chunk)
                sent += len(chunk)
                if fault == "slow":
                    time.sleep(1)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


plain = Server((ADDRESS, 80), Handler)
secure = Server((ADDRESS, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PEM)
secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
with open(PIDFILE, "w") as file:
    file.write(str(os.getpid()))
threading.Thread(target=plain.serve_forever, daemon=True).start()
secure.serve_forever()
