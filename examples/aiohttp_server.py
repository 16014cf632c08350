"""aiohttp's own server with certificates from the store: aiohttp_server.py STORE PORT."""

import asyncio
import sys

from aiohttp import web

from centcert import Provider, open_store, start_server


async def hello(request):
    return web.Response(text=f"Hello from {request.url.host}")


async def main(store_url, port):
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    async with open_store(store_url) as store, Provider(store) as provider:
        server = await start_server(runner.server, provider, port=port, alpn=["http/1.1"])
        try:
            await server.serve_forever()
        finally:
            await runner.cleanup()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
