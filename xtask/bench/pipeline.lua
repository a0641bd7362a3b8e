-- Eight requests in one write, for wrk, which counts each of them.
function init()
  pipelined = string.rep(wrk.format(), 8)
end

function request()
  return pipelined
end
