"""Any ASGI application over HTTP/1.1, WebSockets and HTTP/2: asgi.py STORE PORT."""

import asyncio
import sys

from hello_asgi import app

from centcert import Application, Provider, open_store, start_server


async def main(store_url, port):
    async with (
        open_store(store_url) as store,
        Provider(store) as provider,
        Application(app) as served,
    ):
        server = await start_server(served.protocol, provider, port=port, alpn=served.alpn)
        await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
