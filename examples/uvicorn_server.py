"""uvicorn with settings of its own: uvicorn_server.py STORE PORT."""

import asyncio
import sys

import uvicorn
from hello_asgi import app

from centcert import Provider, open_store, start_server


async def main(store_url, port):
    config = uvicorn.Config(app, timeout_keep_alive=20)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)

    def protocol():
        return config.http_protocol_class(config, server.server_state, server.lifespan.state)

    async with open_store(store_url) as store, Provider(store) as provider:
        await server.startup(sockets=[])
        server.servers.append(await start_server(protocol, provider, port=port, alpn=["http/1.1"]))
        with server.capture_signals():
            await server.main_loop()
            await server.shutdown()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
