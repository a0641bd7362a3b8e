// A gRPC client without a proxy: it follows the control plane that GRPC_XDS_BOOTSTRAP names. For each number that it reads
// on standard input it calls the target as often, one call after another, and prints how often each server has answered.
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());

function call() {
  return new Promise((resolve) => {
    const deadline = Date.now() + 20_000;
    const same = (bytes) => bytes;
    client.makeUnaryRequest('/echo.Echo/Say', same, same, Buffer.from(''), { deadline }, (error, answer) => {
      resolve(error ? `error: ${error.code} ${error.details}` : answer.toString());
    });
  });
}

async function calls(count) {
  const answers = {};
  for (let number = 0; number < count; number += 1) {
    const said = await call();
    answers[said] = (answers[said] ?? 0) + 1;
  }
  console.log(JSON.stringify(answers));
}

let done = Promise.resolve();
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  done = done.then(() => calls(Number(line)));
});
