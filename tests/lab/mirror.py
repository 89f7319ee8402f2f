#!/usr/bin/env python3
"""The lab's download site: mirror.py ADDRESS CACHE PEM PIDFILE

Serves, on ports 80 and 443 of ADDRESS,
  /SITE/PATH          a fixture under the path its upstream uses (the table below)
  /pypi/simple/NAME/  the wheels of fixtures/pypi as a package index (PEP 503)
  /apt-SUITE/FILE     the packages of the web image as an apt repository
and the same files with a fault when the path begins with
  /status/N/…         answers with status N
  /truncate/N/…       ends after N bytes, though more were announced
  /slow/N/…           N bytes a second
  /corrupt/…          the last byte is another one
  /html/…             a web page instead of the file
  /endless/           never ends
  /redirect-file/     redirects to a file: address
"""
import http.server, os, re, socketserver, ssl, sys, threading, time

ADDRESS, CACHE, PEM, PIDFILE = sys.argv[1:5]
FIXTURES = {
    "/wordpress.org/wordpress-6.1.9.tar.gz": "wordpress-6.1.9.tar.xz",
    "/wordpress.org/wordpress-6.8.7.tar.gz": "wordpress-6.8.7.tar.xz",
    "/releases.wikimedia.org/mediawiki/1.39/mediawiki-1.39.17.tar.gz": "mediawiki-1.39.17.tar.gz",
    "/releases.wikimedia.org/mediawiki/1.43/mediawiki-1.43.9.tar.gz": "mediawiki-1.43.9.tar.gz",
    "/download.dokuwiki.org/src/dokuwiki/dokuwiki-2022-07-31a.tgz": "dokuwiki-2022-07-31a.tgz",
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path, fault, number = self.path.split("?")[0], None, 0
        if found := re.match(r"/(status|truncate|slow)/(\d+)(/.*)$", path):
            fault, number, path = found[1], int(found[2]), found[3]
        elif found := re.match(r"/(corrupt|html)(/.*)$", path):
            fault, path = found[1], found[2]
        if fault == "status":
            return self.whole(number, b"no\n", "text/plain", body)
        if fault == "html":
            return self.whole(200, b"<!DOCTYPE html><html><body>Please log in</body></html>\n", "text/html", body)
        if path == "/redirect-file/":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "0")
            return self.end_headers()
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
        if path in FIXTURES:
            file = os.path.join(root, FIXTURES[path])
        elif path.startswith("/pypi/files/"):
            file = os.path.join(root, "pypi", os.path.basename(path))
        elif re.match(r"/apt-[a-z]+/[^/]", path):
            file = os.path.join(CACHE, path.split("/")[1], os.path.basename(path))
        else:
            file = os.path.join(root, os.path.basename(path))
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
        asked = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in (None, etag)
        if asked and unchanged and int(asked[1]) < size:
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", etag)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return
        with open(file, "rb") as data:
            data.seek(start)
            sent = 0
            while chunk := data.read(number if fault == "slow" and number else 1 << 16):
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
