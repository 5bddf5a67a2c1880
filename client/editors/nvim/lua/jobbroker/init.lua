-- Jobs that outlive the editor: what the commands do.

local connection = require('jobbroker.connection')
local jobs = require('jobbroker.jobs')
local output = require('jobbroker.output')
local M = {}

local config = {
  jobctl = { 'jobctl' }, -- how to run it; { 'jobctl', '--instance', 'work' } is another broker
  notify = true, -- say when a job of this editor ends
}
local set_up = false

local function complain(err)
  vim.notify('jobs: ' .. err.message, vim.log.levels.ERROR)
end

function M.setup(given)
  config = vim.tbl_extend('force', config, given or {})
  if type(config.jobctl) == 'string' then
    config.jobctl = { config.jobctl }
  end
  local version = vim.version()
  connection.setup({
    jobctl = config.jobctl,
    client = { name = 'neovim', version = ('%d.%d.%d'):format(version.major, version.minor, version.patch) },
    on_up = jobs.on_up,
    on_note = jobs.on_note,
    on_down = jobs.on_down,
  })
  set_up = true
end

local function request(method, params, callback)
  if not set_up then
    M.setup()
  end
  connection.request(method, params, function(err, result)
    if err then
      return complain(err)
    end
    callback(result)
  end)
end

-- Connect, and call back when the list of jobs is known.
function M.connect()
  if not set_up then
    M.setup()
  end
  connection.connect(true)
end

local function duration(ms)
  if not ms then
    return ''
  end
  local seconds = math.floor(ms / 1000)
  local text = seconds < 60 and seconds .. 's' or math.floor(seconds / 60) .. 'm' .. seconds % 60 .. 's'
  return ' after ' .. text
end

-- Put a job's errors into the quickfix list, read with `efm`; callback(how many).
local function to_quickfix(job, efm, callback)
  output.lines(job.id, function(lines)
    -- names of files are relative to where it ran
    table.insert(lines, 1, "jobs: Entering directory '" .. jobs.text_of(job.cwd) .. "'")
    efm = "%Djobs: Entering directory '%f'," .. efm
    vim.fn.setqflist({}, ' ', { title = 'job ' .. jobs.title(job), lines = lines, efm = efm })
    local valid = vim.tbl_filter(function(item)
      return item.valid == 1
    end, vim.fn.getqflist())
    callback(#valid)
  end)
end

local function ended(job, efm)
  local function say(more)
    if config.notify then
      local level = job.status == 'completed' and vim.log.levels.INFO or vim.log.levels.ERROR
      vim.notify('job ' .. jobs.title(job) .. ' ' .. jobs.state(job) .. duration(job.durationMs) .. more, level)
    end
  end
  if not efm then
    return say('')
  end
  to_quickfix(job, efm, function(count)
    say(count > 0 and (', %d in quickfix'):format(count) or '')
  end)
end

-- Start argv as a job; with `efm`, its errors go into the quickfix list at its end.
function M.start(argv, given)
  given = given or {}
  local params = {
    argv = argv,
    name = given.name,
    cwd = given.cwd or vim.fn.getcwd(),
    env = given.env or vim.fn.environ(),
    merged = true,
  }
  request('job/start', params, function(result)
    jobs.adopt(result.job, function(job)
      if job then
        ended(job, given.efm)
      end
    end)
  end)
end

local function in_shell(text)
  local argv = vim.split(vim.o.shell, ' ', { trimempty = true })
  vim.list_extend(argv, vim.split(vim.o.shellcmdflag, ' ', { trimempty = true }))
  table.insert(argv, text)
  return argv
end

local function name_of(text)
  local word = text:match('^%s*(%S+)')
  return word and vim.fn.fnamemodify(word, ':t'):sub(1, 200)
end

-- Start a shell command; without one, ask for it.
function M.run(text)
  if text and text ~= '' then
    return M.start(in_shell(text), { name = name_of(text) })
  end
  vim.ui.input({ prompt = 'Job: ', completion = 'shellcmd' }, function(given)
    if given and given ~= '' then
      M.start(in_shell(given), { name = name_of(given) })
    end
  end)
end

-- What :make would run, as a job.
function M.make(arguments)
  local makeprg = vim.fn.expandcmd(vim.bo.makeprg ~= '' and vim.bo.makeprg or vim.o.makeprg)
  local text, replaced = makeprg:gsub('%$%*', (arguments:gsub('%%', '%%%%')))
  if replaced == 0 and arguments ~= '' then
    text = text .. ' ' .. arguments
  end
  local efm = vim.bo.errorformat ~= '' and vim.bo.errorformat or vim.o.errorformat
  M.start(in_shell(text), { name = name_of(text), efm = efm })
end

local function with(reference, action)
  local job = jobs.find(reference)
  if job then
    return action(job)
  end
  -- one that is not in the list: older, or we are not connected yet
  if not reference or reference == '' then
    return complain({ message = 'no job of this directory' })
  end
  request('job/get', { id = reference }, function(result)
    action(result.job)
  end)
end

function M.output(reference)
  with(reference, output.open)
end

function M.cancel(reference)
  with(reference, function(job)
    request('job/cancel', { id = job.id }, function(result)
      if not result.changed then
        vim.notify('job ' .. jobs.title(job) .. ' had ended already')
      end
    end)
  end)
end

-- The same command in the same place, with the same environment and limits.
function M.rerun(reference)
  with(reference, function(known)
    request('job/get', { id = known.id, env = true }, function(result)
      local job = result.job
      local params = {
        name = job.name,
        labels = next(job.labels or {}) and job.labels or nil, -- an empty table would be sent as an array
        cwd = job.cwd,
        env = job.env,
        merged = job.merged,
        timeoutMs = job.timeoutMs,
        idleTimeoutMs = job.idleTimeoutMs,
        graceMs = job.graceMs,
      }
      if job.kind == 'turn' then
        params.method, params.params = job.method, job.params
      elseif job.kind == 'agent' then
        params.agent, params.prompt = job.agent, job.prompt
      else
        params.argv = job.argv
      end
      request('job/start', params, function(again)
        jobs.adopt(again.job, function(done)
          if done then
            ended(done)
          end
        end)
      end)
    end)
  end)
end

function M.errors(reference)
  with(reference, function(job)
    to_quickfix(job, vim.o.errorformat, function(count)
      if count > 0 then
        vim.cmd('botright copen | cfirst')
      else
        vim.notify('job ' .. jobs.title(job) .. ': no errors found in its output')
      end
    end)
  end)
end

function M.list(everywhere)
  M.connect()
  require('jobbroker.list').open(everywhere)
end

M.statusline = jobs.statusline

return M
