-- What is known of the jobs: those of the broker, and which of them are ours.

local connection = require('jobbroker.connection')
local M = { jobs = {}, listeners = {} }

local LIVE = { queued = true, running = true, stopped = true }
local cursor -- of the last news that was read
local mine = {} -- id -> what to do at its end; gone once that was done

function M.is_live(job)
  return LIVE[job.status] == true
end

function M.text_of(text)
  return type(text) == 'string' and text or '?' -- bytes that are no text travel as an object
end

function M.title(job)
  return (job.name and job.name ~= '') and job.name .. ' (' .. job.id .. ')' or job.id
end

-- How it ended or stands, in words.
function M.state(job)
  if job.exitCode and job.exitCode ~= 0 then
    return job.status .. ': exit status ' .. job.exitCode
  elseif job.signal then
    return job.status .. ': ' .. job.signal
  end
  return job.status .. ((job.error and job.status == 'failed') and ': ' .. job.error or '')
end

local function tell()
  for _, listener in ipairs(M.listeners) do
    listener()
  end
end

local function learn(job)
  local known = M.jobs[job.id]
  if known and known.rev > job.rev then
    return
  end
  M.jobs[job.id] = job
  local at_end = mine[job.id]
  if at_end and not M.is_live(job) then
    mine[job.id] = nil
    at_end(job)
  end
end

-- A job of this editor: `at_end` is called once, when it has ended.
function M.adopt(job, at_end)
  mine[job.id] = at_end
  learn(job)
  tell()
end

-- Jobs of a directory, or all, newest first.
function M.sorted(cwd)
  local found = {}
  for _, job in pairs(M.jobs) do
    if not cwd or job.cwd == cwd then
      table.insert(found, job)
    end
  end
  table.sort(found, function(a, b)
    return a.number > b.number
  end)
  return found
end

-- The job somebody means: an id, a beginning of one or a name; without a word, the newest of this directory.
function M.find(reference)
  local here = M.sorted(vim.fn.getcwd())
  if not reference or reference == '' then
    return here[1]
  end
  for _, job in ipairs(M.sorted()) do
    if job.id == reference or job.name == reference or vim.startswith(job.id, reference) then
      return job
    end
  end
end

function M.statusline()
  if not connection.is_up() then
    return ''
  end
  local running, failed = 0, 0
  for _, job in ipairs(M.sorted(vim.fn.getcwd())) do
    if M.is_live(job) then
      running = running + 1
    elseif job.status ~= 'completed' and job.status ~= 'cancelled' then
      failed = failed + 1
    end
  end
  local parts = {}
  if running > 0 then
    table.insert(parts, running .. ' run')
  end
  if failed > 0 then
    table.insert(parts, failed .. ' fail')
  end
  return table.concat(parts, ' ')
end

-- What happened to ours while nobody told us.
local function settle()
  for id, at_end in pairs(mine) do
    connection.request('job/get', { id = id }, function(err, result)
      if result then
        learn(result.job)
        tell()
      elseif not err.lost then -- it was removed meanwhile
        mine[id] = nil
        at_end(nil)
      end
    end, true)
  end
end

function M.on_up()
  connection.request('events/subscribe', { since = cursor }, function(err, news)
    if err then
      return
    end
    cursor = news.cursor
    if news.reset then
      M.jobs = {}
    end
    for _, id in ipairs(news.removed) do
      M.jobs[id] = nil
    end
    for _, job in ipairs(news.jobs) do
      learn(job)
    end
    connection.request('job/list', { limit = 200 }, function(_, page)
      for _, job in ipairs(page and page.jobs or {}) do
        learn(job)
      end
      settle()
      tell()
    end, true)
  end, true)
end

function M.on_note(method, params)
  cursor = params.cursor or cursor
  if method == 'notifications/job/updated' then
    learn(params.job)
  elseif method == 'notifications/job/removed' then
    M.jobs[params.id] = nil
  else
    return
  end
  tell()
end

M.on_down = tell

return M
