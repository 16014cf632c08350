"""asyncio's streams over TLS, for any protocol of your own: streams.py STORE PORT."""

import asyncio
import sys

from centcert import Provider, open_store, start_server


async def echo(reader, writer):
    name = writer.get_extra_info("server_name")
    async for line in reader:
        writer.write(f"{name} heard: ".encode() + line)
        await writer.drain()
    writer.close()


async def main(store_url, port):
    def protocol():
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo)

    async with open_store(store_url) as store, Provider(store) as provider:
        server = await start_server(protocol, provider, port=port)
        await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
