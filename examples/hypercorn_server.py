"""Hypercorn with settings of its own: hypercorn_server.py STORE PORT."""

import asyncio
import sys

from hello_asgi import app
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from centcert import Provider, open_store, start_server


async def main(store_url, port):
    loop, config, context, state = asyncio.get_running_loop(), Config(), WorkerContext(None), {}
    lifespan = Lifespan(ASGIWrapper(app), config, loop, state)

    async def serve(reader, writer):
        await TCPServer(ASGIWrapper(app), loop, config, context, state, reader, writer)

    def protocol():
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve)

    async with open_store(store_url) as store, Provider(store) as provider:
        running = loop.create_task(lifespan.handle_lifespan())
        await lifespan.wait_for_startup()
        server = await start_server(protocol, provider, port=port, alpn=["h2", "http/1.1"])
        await asyncio.gather(server.serve_forever(), running)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
