-- One connection to the broker, kept up. What is asked while it is down is sent when it is up again.

local M = {}
local uv = vim.uv or vim.loop

local FIRST_PAUSE, LONGEST_PAUSE = 250, 30000 -- ms between attempts; they double
local SHUTTING_DOWN = -31007
local PATIENCE = 10000 -- ms for the handshake: a socket nobody listens on is not reported, only silent

local options -- {jobctl, client, on_up(), on_note(method, params), on_down()}
local rpc, ready, opening -- the client of this moment; whether it has answered; whether one is being made
local attempt = 0 -- number of the attempt; what older ones still say is not listened to
local pause, waiting = FIRST_PAUSE, false -- how long to the next attempt; whether it is set
local leaving = false -- it answers nothing any more
local told = false -- the broker said goodbye: somebody wanted it gone, so only look whether it is back
local path -- of its socket
local queue = {} -- requests that wait for a connection
local pending = {} -- callbacks of requests under way

function M.setup(given)
  options = given
end

function M.is_up()
  return ready == true
end

local open

local function command(...)
  return vim.list_extend(vim.deepcopy(options.jobctl), { ... })
end

local function later()
  if waiting then
    return
  end
  waiting = true
  vim.defer_fn(function()
    waiting = false
    M.connect()
  end, pause)
  pause = math.min(pause * 2, LONGEST_PAUSE)
end

-- The connection has ended, or none came about.
local function down(number)
  if number ~= attempt then
    return
  end
  attempt = attempt + 1
  local was_up, unanswered = ready, pending
  if rpc and rpc.terminate then
    pcall(rpc.terminate)
  elseif rpc and rpc.handle and not rpc.handle:is_closing() then
    rpc.handle:kill(15)
  end
  rpc, ready, opening, leaving, pending = nil, false, false, false, {}
  for _, callback in pairs(unanswered) do
    callback({ message = 'the broker went away', lost = true })
  end
  if was_up then
    options.on_down()
  end
  later()
end

local function send(method, params, callback)
  local key = {}
  pending[key] = callback
  local sent = rpc.request(method, params, function(err, result)
    if pending[key] then
      pending[key] = nil
      if err and err.code == SHUTTING_DOWN then
        leaving, err.lost = true, true
      end
      callback(err, result)
    end
  end)
  if not sent then
    pending[key] = nil
    callback({ message = 'the broker went away', lost = true })
  end
end

local function greet(number)
  -- alone and first: until it is connected the client keeps ten requests, and forgets the others
  send('initialize', { clientInfo = options.client }, function(err)
    if number ~= attempt then
      return
    end
    if err then
      return down(number)
    end
    ready, opening, told, pause = true, false, false, FIRST_PAUSE
    options.on_up()
    local waiting = queue
    queue = {}
    for _, each in ipairs(waiting) do
      send(each.method, each.params, each.callback)
    end
  end)
  vim.defer_fn(function()
    if not ready then
      down(number)
    end
  end, PATIENCE)
end

function open()
  local number = attempt
  local dispatchers = {
    notification = function(method, params)
      if number ~= attempt then
        return
      end
      if method == 'notifications/broker/shuttingDown' then
        told, leaving = true, true
      end
      options.on_note(method, params)
    end,
    on_exit = vim.schedule_wrap(function()
      down(number)
    end),
    on_error = function() end,
    server_request = function()
      return nil, { code = -32601, message = 'not supported' }
    end,
  }
  if vim.fn.has('nvim-0.10') == 1 then
    rpc = vim.lsp.rpc.connect(path)(dispatchers)
  else -- older ones connect to TCP at most
    local bridge = command('rpc')
    rpc = vim.lsp.rpc.start(table.remove(bridge, 1), bridge, dispatchers)
  end
  if rpc then
    greet(number)
  else
    down(number)
  end
end

-- Ask jobctl where the socket is, which starts a broker if there is none.
local function find(number)
  local lines = {}
  local started, channel = pcall(vim.fn.jobstart, command('socket-path'), {
    stdout_buffered = true,
    on_stdout = function(_, data)
      lines = data
    end,
    on_exit = vim.schedule_wrap(function(_, code)
      if number ~= attempt then
        return
      end
      if code ~= 0 or not lines[1] or lines[1] == '' then
        return down(number)
      end
      path = lines[1]
      open()
    end),
  })
  if not started or channel <= 0 then
    vim.notify('jobs: cannot run ' .. options.jobctl[1] .. ', set jobctl in setup()', vim.log.levels.ERROR)
    attempt, opening = attempt + 1, false
  end
end

-- Connect if need be. With `start`, somebody wants it now: a broker that was stopped is started again.
function M.connect(start)
  if rpc or opening then
    return
  end
  if told and not start and not (path and uv.fs_stat(path)) then
    return later()
  end
  opening = true
  if told and not start then
    open()
  else
    find(attempt)
  end
end

-- Send a request, now or when there is a connection; callback(err, result) on the main loop, once.
-- `patiently` does not start a broker that was stopped.
function M.request(method, params, callback, patiently)
  if ready and not leaving then
    return send(method, params, callback)
  end
  table.insert(queue, { method = method, params = params, callback = callback })
  M.connect(not patiently)
end

function M.close()
  attempt = attempt + 1
  local old = rpc
  rpc, ready, opening, queue, pending = nil, false, false, {}, {}
  if old then
    old.notify('exit')
  end
end

return M
