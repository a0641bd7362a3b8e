// A gRPC server on Node's HTTP/2, for any unary method: `node server.cjs PORT VERSION`. A method `Sleep` takes 5 seconds.
const http2 = require('node:http2');

const [port, version] = process.argv.slice(2);
const text = `hello from ${version}`;

http2.createServer().on('stream', (stream, headers) => {
  const respond = () => {
    if (stream.destroyed) return;
    const message = Buffer.alloc(5 + text.length);
    message.writeUInt32BE(text.length, 1);
    message.write(text, 5);
    stream.respond({':status': 200, 'content-type': 'application/grpc'}, {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers({'grpc-status': '0'}));
    stream.end(message);
  };
  stream.on('error', () => {});
  stream.on('end', () => setTimeout(respond, headers[':path'].endsWith('/Sleep') ? 5000 : 0));
  stream.resume();
}).listen(Number(port), '127.0.0.1');
