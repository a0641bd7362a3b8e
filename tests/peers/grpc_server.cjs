// A gRPC server that responds with its port. It prints the port, and serves until it is killed.
const grpc = require('@grpc/grpc-js');

const say = {
  path: '/echo.Echo/Say',
  requestStream: false,
  responseStream: false,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

const server = new grpc.Server();
let port = 0;
server.addService({ say }, { say: (call, reply) => reply(null, Buffer.from(String(port))) });
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
  if (error) throw error;
  port = bound;
  console.log(port);
});
