-- Drives the plugin in a headless Neovim as a user would. The test beside it stops and starts the broker at the marks.

local api = require('jobbroker')
local jobs = require('jobbroker.jobs')
local marks = os.getenv('MARKS')
local notices = {}

vim.notify = function(text)
  table.insert(notices, text)
end

local function mark(name, text)
  local file = assert(io.open(marks .. '/' .. name .. '.part', 'w'))
  file:write(text or '')
  file:close()
  os.rename(marks .. '/' .. name .. '.part', marks .. '/' .. name)
end

local function eventually(what, condition)
  if not vim.wait(20000, condition, 10) then
    error('never happened: ' .. what .. '; notices: ' .. vim.inspect(notices))
  end
end

local function noticed(pattern)
  return #vim.tbl_filter(function(text)
    return text:find(pattern)
  end, notices)
end

local function newest(status)
  local job = jobs.find()
  return job and job.status == status and job
end

local function text()
  return table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), '\n')
end

local function drive()
  api.setup({ jobctl = { os.getenv('JOBCTL') } })

  -- started from the prompt; the list is live; one notice at the end
  vim.ui.input = function(_, answer)
    answer('echo tschüß; exit 3')
  end
  vim.cmd('Job')
  eventually('its end', function()
    return newest('failed')
  end)
  eventually('a notice', function()
    return noticed('^job echo.* failed: exit status 3') == 1
  end)
  assert(jobs.statusline() == '1 fail', jobs.statusline())
  vim.cmd('Jobs')
  local list = vim.api.nvim_get_current_buf()
  assert(text():find('echo.*failed: exit status 3'), text())
  vim.cmd('JobOutput echo')
  eventually('its output', function()
    return text():find('tschüß')
  end)
  vim.cmd('bwipeout')

  -- the build command, and its errors in quickfix, also where the build ran elsewhere
  vim.o.makeprg = [[echo 'prog.c:7:3: error: no such thing'; false]]
  vim.cmd('JobMake')
  eventually('errors', function()
    return noticed('1 in quickfix') == 1
  end)
  local item = vim.tbl_filter(function(each)
    return each.valid == 1
  end, vim.fn.getqflist())[1]
  assert(item.lnum == 7 and item.col == 3 and item.text:find('no such thing'), vim.inspect(item))
  assert(vim.fn.fnamemodify(vim.fn.bufname(item.bufnr), ':p') == vim.fn.getcwd() .. '/prog.c')

  -- rerun, from the list
  local before = jobs.find().id
  vim.cmd('JobRerun ' .. before)
  eventually('another run', function()
    return newest('failed') and jobs.find().id ~= before
  end)

  -- cancel
  vim.cmd('Job sleep 300')
  eventually('a running job', function()
    return newest('running')
  end)
  assert(jobs.statusline():find('^1 run'), jobs.statusline())
  vim.api.nvim_buf_call(list, function()
    assert(text():find('sleep.*running'), text())
  end)
  vim.cmd('JobCancel')
  eventually('cancelled', function()
    return newest('cancelled')
  end)

  -- followed, while it runs, and across another broker
  vim.cmd([[Job trap '' HUP; echo one; while [ ! -e "$MARKS/end" ]; do sleep 0.05; done; echo two]])
  eventually('a running job', function()
    return newest('running')
  end)
  local long = jobs.find().id
  vim.cmd('JobOutput')
  eventually('one', function()
    return text() == 'one\n'
  end)
  mark('ready')
  eventually('the loss', function()
    return not require('jobbroker.connection').is_up()
  end)
  assert(jobs.statusline() == '')
  mark('down')
  eventually('the return', function()
    return require('jobbroker.connection').is_up() and jobs.jobs[long]
  end)
  local told = noticed('%(' .. long .. '%)')
  assert(told == 0)
  mark('end')
  eventually('two', function()
    return text() == 'one\ntwo\n'
  end)
  eventually('a notice of its end', function()
    return noticed(long .. '.* completed') == 1
  end)

  -- what others start here is seen, and not announced
  mark('other')
  eventually("another's job", function()
    local job = newest('completed')
    return job and job.name == 'other'
  end)
  assert(noticed('other') == 0, vim.inspect(notices))
end

local ok, err = xpcall(drive, debug.traceback)
mark('result', ok and 'passed' or err)
vim.cmd('qall!')
