// A proxyless gRPC client that follows the control plane of GRPC_XDS_BOOTSTRAP. For each number N on standard input it makes
// N calls to the target, one after another, and prints the number of responses by server as a JSON object.
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());

function call() {
  return new Promise((resolve) => {
    const deadline = Date.now() + 20_000;
    const identity = (bytes) => bytes;
    client.makeUnaryRequest('/echo.Echo/Say', identity, identity, Buffer.from(''), { deadline }, (error, response) => {
      resolve(error ? `error: ${error.code} ${error.details}` : response.toString());
    });
  });
}

async function calls(count) {
  const responses = {};
  for (let number = 0; number < count; number += 1) {
    const response = await call();
    responses[response] = (responses[response] ?? 0) + 1;
  }
  console.log(JSON.stringify(responses));
}

let done = Promise.resolve();
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  done = done.then(() => calls(Number(line)));
});
