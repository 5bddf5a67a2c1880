-- The list of jobs, in a buffer that changes as they do.

local jobs = require('jobbroker.jobs')
local M = {}

local buffer
local shown = {} -- line -> job
local cwd -- the directory it is restricted to

local HELP = '<CR> output  c cancel  r rerun  e errors  a all/here  q close'

local function line_of(job)
  local text = jobs.text_of
  local command = job.argv and table.concat(vim.tbl_map(text, job.argv), ' ') or job.prompt or job.method or ''
  local line = ('%-6s  %-12s  %-24s  %s'):format(job.id, (job.name or '-'):sub(1, 12), jobs.state(job):sub(1, 24), command)
  return (line:gsub('%c', ' '))
end

local function render()
  if not (buffer and vim.api.nvim_buf_is_valid(buffer)) then
    return
  end
  shown = jobs.sorted(cwd)
  local lines = { 'Jobs ' .. (cwd and 'of ' .. cwd or 'everywhere') .. '   ' .. HELP }
  for _, job in ipairs(shown) do
    table.insert(lines, line_of(job))
  end
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  vim.bo[buffer].modifiable = false
end

table.insert(jobs.listeners, render)

local function key(keys, action)
  vim.keymap.set('n', keys, function()
    local job = shown[vim.api.nvim_win_get_cursor(0)[1] - 1]
    if job then
      action(job.id)
    end
  end, { buffer = buffer, nowait = true })
end

function M.open(everywhere)
  cwd = not everywhere and vim.fn.getcwd() or nil
  if buffer and vim.api.nvim_buf_is_valid(buffer) then
    vim.cmd('botright sbuffer ' .. buffer)
    return render()
  end
  vim.cmd('botright new')
  buffer = vim.api.nvim_get_current_buf()
  vim.bo[buffer].buftype, vim.bo[buffer].bufhidden, vim.bo[buffer].swapfile = 'nofile', 'wipe', false
  vim.wo.wrap, vim.wo.cursorline = false, true
  vim.api.nvim_buf_set_name(buffer, 'jobs://')
  vim.bo[buffer].filetype = 'joblist'
  local api = require('jobbroker')
  key('<CR>', api.output)
  key('c', api.cancel)
  key('r', api.rerun)
  key('e', api.errors)
  vim.keymap.set('n', 'q', '<cmd>close<cr>', { buffer = buffer, nowait = true })
  vim.keymap.set('n', 'a', function()
    cwd = not cwd and vim.fn.getcwd() or nil
    render()
  end, { buffer = buffer, nowait = true })
  render()
end

return M
