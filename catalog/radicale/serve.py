# Managed by socle. Serves Radicale at a Unix socket, which its own server cannot.
import os
import socket
import socketserver
import sys
import threading
from wsgiref.simple_server import WSGIServer

from radicale import application
from radicale.server import RequestHandler

# Requests served at once; nginx makes the others wait.
PARALLEL = threading.BoundedSemaphore(16)


class Server(socketserver.ThreadingMixIn, WSGIServer):
    address_family = socket.AF_UNIX
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        if os.path.exists(self.server_address):
            os.unlink(self.server_address)
        socketserver.TCPServer.server_bind(self)
        # The web server is a member of the instance's group.
        os.chmod(self.server_address, 0o660)
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()

    def get_request(self):
        request, _ = super().get_request()
        request.settimeout(60)
        return request, ("127.0.0.1", 0)

    def process_request_thread(self, request, client_address):
        with PARALLEL:
            super().process_request_thread(request, client_address)


def ready():
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", "\0" + path[1:] if path[0] == "@" else path)


def main(config, path):
    os.environ["RADICALE_CONFIG"] = config
    server = Server(path, RequestHandler)
    server.set_app(application)
    ready()
    server.serve_forever()


main(*sys.argv[1:])
