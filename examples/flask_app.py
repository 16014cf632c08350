"""Flask, or any WSGI application: `centcert serve --app flask_app:app`."""

from a2wsgi import WSGIMiddleware
from flask import Flask, request

flask = Flask(__name__)


@flask.get("/")
def hello():
    return f"Hello from {request.host.partition(':')[0]}"


app = WSGIMiddleware(flask)
