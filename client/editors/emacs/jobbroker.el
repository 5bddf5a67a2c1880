;;; jobbroker.el --- Jobs that outlive Emacs  -*- lexical-binding: t; -*-

;; Author: The jobbroker authors
;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: processes, tools
;; SPDX-License-Identifier: MIT

;;; Commentary:

;; Start builds and other long work, and leave: the jobs go on.  Commands: `jobbroker-run', `jobbroker-compile',
;; `jobbroker-list', and in the list or by name `jobbroker-output', `-cancel', `-rerun', `-errors'.

;;; Code:

(require 'ansi-color)
(require 'cl-lib)
(require 'compile)
(require 'jsonrpc)
(require 'seq)
(require 'subr-x)
(require 'tabulated-list)

(defgroup jobbroker nil "Jobs that outlive Emacs." :group 'processes)

(defcustom jobbroker-jobctl '("jobctl")
  "How to run jobctl, as a list of words."
  :type '(repeat string))

(defcustom jobbroker-notify t
  "Whether to say when a job of this Emacs has ended."
  :type 'boolean)

(defvar jobbroker-notify-function #'message
  "Called with the text of a notice.")

;;;; The connection: one, kept up

(defconst jobbroker--first-pause 0.25 "Seconds to the next attempt; they double.")
(defconst jobbroker--longest-pause 30)
(defconst jobbroker--wait 60000 "Milliseconds the broker holds a request while there is nothing new.")

(defvar jobbroker--connection nil)
(defvar jobbroker--ready nil "Whether the broker has answered.")
(defvar jobbroker--finding nil "The process that asks jobctl for the socket.")
(defvar jobbroker--path nil)
(defvar jobbroker--told nil
  "The broker said goodbye: somebody wanted it gone, so only look whether it is back.")
(defvar jobbroker--leaving nil "It answers nothing any more.")
(defvar jobbroker--pause jobbroker--first-pause)
(defvar jobbroker--timer nil)
(defvar jobbroker--queue nil "Requests that wait for a connection, the last first.")
(defvar jobbroker--pending nil "Of requests under way, what to do if there is no answer.")

(defun jobbroker--later ()
  (unless jobbroker--timer
    (setq jobbroker--timer (run-at-time jobbroker--pause nil
                                        (lambda () (setq jobbroker--timer nil) (jobbroker--connect)))
          jobbroker--pause (min (* 2 jobbroker--pause) jobbroker--longest-pause))))

(defun jobbroker--down (connection)
  "CONNECTION has ended."
  (when (eq connection jobbroker--connection)
    (let ((unanswered jobbroker--pending))
      (setq jobbroker--connection nil jobbroker--ready nil jobbroker--leaving nil jobbroker--pending nil)
      (mapc #'funcall unanswered)
      (jobbroker--changed)
      (jobbroker--later))))

(defun jobbroker--send (method params success failure)
  "Ask METHOD with PARAMS, and call SUCCESS with the result.
Else call FAILURE with a message and whether the connection was lost."
  (let (lost)
    (setq lost (lambda () (funcall failure "the broker went away" t)))
    (push lost jobbroker--pending)
    (cl-flet ((answered () (prog1 (memq lost jobbroker--pending)
                             (setq jobbroker--pending (delq lost jobbroker--pending)))))
      (condition-case nil
          ;; never the blocking kind: it holds up the user, and in Emacs 28 leaves news behind
          (jsonrpc-async-request
           jobbroker--connection method (or params (make-hash-table)) :timeout nil
           :success-fn (lambda (result) (when (answered) (funcall success result)))
           :error-fn (lambda (err)
                       (when (answered)
                         (let ((gone (eql (plist-get err :code) -31007)))
                           (when gone (setq jobbroker--leaving t))
                           (funcall failure (plist-get err :message) gone)))))
        (error (when (answered) (funcall lost)))))))

(defun jobbroker--heard (_connection method params)
  (when (eq method 'notifications/broker/shuttingDown)
    (setq jobbroker--told t jobbroker--leaving t))
  (jobbroker--learn-note method params))

(defun jobbroker--open ()
  (condition-case nil
      (let ((connection (apply #'make-instance 'jsonrpc-process-connection
               :name "jobs"
               :process (lambda () (make-network-process :name "jobs" :family 'local :service jobbroker--path
                                                         :coding 'utf-8-emacs-unix :noquery t))
               :notification-dispatcher #'jobbroker--heard
               :on-shutdown #'jobbroker--down
               (if (< emacs-major-version 30)
                   '(:events-buffer-scrollback-size 0)
                 '(:events-buffer-config (:size 0))))))
        (setq jobbroker--connection connection)
        (jobbroker--send
         'initialize `(:clientInfo (:name "emacs" :version ,emacs-version))
         (lambda (_)
           (setq jobbroker--ready t jobbroker--told nil jobbroker--pause jobbroker--first-pause)
           (jobbroker--subscribe)
           (let ((waiting (nreverse jobbroker--queue)))
             (setq jobbroker--queue nil)
             (dolist (each waiting) (apply #'jobbroker--send each))))
         (lambda (&rest _)
           (when (jsonrpc-running-p connection) (jsonrpc-shutdown connection)))))
    (file-error (jobbroker--later))))

(defun jobbroker--find ()
  "Ask jobctl where the socket is, which starts a broker if there is none."
  (let ((buffer (generate-new-buffer " *jobs socket*")))
    (setq jobbroker--finding
          (make-process
           :name "jobctl" :buffer buffer :noquery t :connection-type 'pipe
           :command (append jobbroker-jobctl '("socket-path"))
           :sentinel
           (lambda (process _)
             (unless (process-live-p process)
               (setq jobbroker--finding nil
                     jobbroker--path (with-current-buffer buffer (string-trim (buffer-string))))
               (kill-buffer buffer)
               (if (zerop (process-exit-status process)) (jobbroker--open) (jobbroker--later))))))))

(defun jobbroker--connect (&optional start)
  "Connect if need be.  With START somebody wants it now: a broker that was stopped is started again."
  (unless (or jobbroker--connection jobbroker--finding)
    (cond ((or start (not jobbroker--told)) (jobbroker--find))
          ((file-exists-p jobbroker--path) (jobbroker--open))
          (t (jobbroker--later)))))

(defun jobbroker--ask (patiently method params success failure)
  "Send a request now, or when there is a connection; PATIENTLY does not start a broker that was stopped."
  (if (and jobbroker--ready (not jobbroker--leaving))
      (jobbroker--send method params success failure)
    (push (list method params success failure) jobbroker--queue)
    (jobbroker--connect (not patiently))))

(defun jobbroker--request (method params success)
  "For the user: a failure is told."
  (jobbroker--ask nil method params success (lambda (text _) (message "jobs: %s" text))))

;;;; What is known of the jobs

(defvar jobbroker--jobs (make-hash-table :test 'equal) "Id -> job.")
(defvar jobbroker--cursor nil "Of the last news that was read.")
(defvar jobbroker--mine nil "Ids of live jobs of this Emacs.")

(defun jobbroker--live-p (job)
  (member (plist-get job :status) '("queued" "running" "stopped")))

(defun jobbroker--text (text)
  "TEXT, unless it is bytes that are none: those travel as an object."
  (if (stringp text) text "?"))

(defun jobbroker--title (job)
  (if-let ((name (plist-get job :name))) (format "%s (%s)" name (plist-get job :id)) (plist-get job :id)))

(defun jobbroker--state (job)
  "How it ended or stands, in words."
  (let ((code (plist-get job :exitCode)) (status (plist-get job :status)))
    (cond ((and code (/= code 0)) (format "%s: exit status %d" status code))
          ((plist-get job :signal) (format "%s: %s" status (plist-get job :signal)))
          ((and (equal status "failed") (plist-get job :error)) (format "%s: %s" status (plist-get job :error)))
          (t status))))

(defun jobbroker--ended (job)
  (when jobbroker-notify
    (let ((text (format "job %s %s after %ds" (jobbroker--title job) (jobbroker--state job)
                        (/ (or (plist-get job :durationMs) 0) 1000))))
      (funcall jobbroker-notify-function
               (propertize text 'face (if (equal (plist-get job :status) "completed") 'success 'error))))))

(defun jobbroker--learn (job)
  (let* ((id (plist-get job :id)) (known (gethash id jobbroker--jobs)))
    (unless (and known (> (plist-get known :rev) (plist-get job :rev)))
      (puthash id job jobbroker--jobs)
      (when (and (member id jobbroker--mine) (not (jobbroker--live-p job)))
        (setq jobbroker--mine (delete id jobbroker--mine))
        (jobbroker--ended job)))))

(defun jobbroker--adopt (job)
  "JOB is of this Emacs: its end is told, once."
  (push (plist-get job :id) jobbroker--mine)
  (jobbroker--learn job)
  (jobbroker--changed))

(defun jobbroker--learn-note (method params)
  (setq jobbroker--cursor (or (plist-get params :cursor) jobbroker--cursor))
  (pcase method
    ('notifications/job/updated (jobbroker--learn (plist-get params :job)) (jobbroker--changed))
    ('notifications/job/removed (remhash (plist-get params :id) jobbroker--jobs) (jobbroker--changed))))

(defun jobbroker--subscribe ()
  (jobbroker--send
   'events/subscribe (and jobbroker--cursor (list :since jobbroker--cursor))
   (lambda (news)
     (setq jobbroker--cursor (plist-get news :cursor))
     (when (eq (plist-get news :reset) t) (clrhash jobbroker--jobs))
     (seq-do (lambda (id) (remhash id jobbroker--jobs)) (plist-get news :removed))
     (seq-do #'jobbroker--learn (plist-get news :jobs))
     (jobbroker--ask t 'job/list '(:limit 200)
                     (lambda (page)
                       (seq-do #'jobbroker--learn (plist-get page :jobs))
                       (jobbroker--settle)
                       (jobbroker--changed))
                     #'ignore))
   #'ignore))

(defun jobbroker--settle ()
  "Find out what happened to ours while nobody told us."
  (dolist (id jobbroker--mine)
    (jobbroker--ask t 'job/get (list :id id)
                    (lambda (result) (jobbroker--learn (plist-get result :job)) (jobbroker--changed))
                    (lambda (_ lost)
                      (unless lost (setq jobbroker--mine (delete id jobbroker--mine)))))))

(defun jobbroker--here ()
  (directory-file-name (expand-file-name default-directory)))

(defun jobbroker--sorted (&optional directory)
  "Jobs of DIRECTORY, or all, newest first."
  (sort (seq-filter (lambda (job) (or (not directory) (equal (plist-get job :cwd) directory)))
                    (hash-table-values jobbroker--jobs))
        (lambda (a b) (> (plist-get a :number) (plist-get b :number)))))

(defun jobbroker-mode-line ()
  "Counts of this directory, such as 2 run 1 fail."
  (if (not jobbroker--ready) ""
    (let* ((jobs (jobbroker--sorted (jobbroker--here)))
           (running (seq-count #'jobbroker--live-p jobs))
           (failed (seq-count (lambda (job) (member (plist-get job :status) '("failed" "timed_out"))) jobs)))
      (string-join (delq nil (list (and (> running 0) (format "%d run" running))
                                   (and (> failed 0) (format "%d fail" failed))))
                   " "))))

;;;; The list

(defvar-local jobbroker--directory nil "The directory the list is restricted to.")

(defvar jobbroker-list-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "RET") #'jobbroker-output)
    (define-key map "c" #'jobbroker-cancel)
    (define-key map "r" #'jobbroker-rerun)
    (define-key map "e" #'jobbroker-errors)
    (define-key map "a" #'jobbroker-list-toggle)
    map))

(define-derived-mode jobbroker-list-mode tabulated-list-mode "Jobs"
  "The jobs of a directory, or all, as they change."
  (setq tabulated-list-format [("Id" 7 t) ("Name" 14 t) ("State" 26 t) ("Command" 0 nil)])
  (setq tabulated-list-entries #'jobbroker--rows)
  (tabulated-list-init-header))

(defun jobbroker--rows ()
  (mapcar (lambda (job)
            (list (plist-get job :id)
                  (vector (plist-get job :id) (or (plist-get job :name) "-") (jobbroker--state job)
                          (replace-regexp-in-string
                           "[[:cntrl:]]" " "
                           (if-let ((argv (plist-get job :argv)))
                               (mapconcat #'jobbroker--text argv " ")
                             (or (plist-get job :prompt) (plist-get job :method) ""))))))
          (jobbroker--sorted jobbroker--directory)))

(defun jobbroker--changed ()
  (when-let ((buffer (get-buffer "*jobs*")))
    (with-current-buffer buffer (tabulated-list-print t)))
  (force-mode-line-update t))

(defun jobbroker-list-toggle ()
  "Show the jobs of all directories, or of this one only."
  (interactive)
  (setq jobbroker--directory (and (not jobbroker--directory) (jobbroker--here)))
  (jobbroker--changed))

;;;###autoload
(defun jobbroker-list (&optional everywhere)
  "Show the jobs of this directory; with a prefix argument EVERYWHERE, all."
  (interactive "P")
  (jobbroker--connect t)
  (let ((directory default-directory))
    (with-current-buffer (get-buffer-create "*jobs*")
      (unless (derived-mode-p 'jobbroker-list-mode) (jobbroker-list-mode))
      (setq default-directory directory jobbroker--directory (and (not everywhere) (jobbroker--here)))
      (tabulated-list-print t)))
  (pop-to-buffer "*jobs*"))

;;;; Starting and ending

(defun jobbroker--name (command)
  (file-name-nondirectory (or (car (split-string command)) "job")))

(defun jobbroker--start (command &optional then)
  "Start COMMAND in a shell; call THEN with the job when it is accepted."
  (jobbroker--request
   'job/start
   (list :argv (vector shell-file-name shell-command-switch command)
         :name (jobbroker--name command) :cwd (jobbroker--here) :merged t
         :env (vconcat (seq-filter (lambda (each) (string-search "=" each)) process-environment)))
   (lambda (result)
     (jobbroker--adopt (plist-get result :job))
     (when then (funcall then (plist-get result :job))))))

;;;###autoload
(defun jobbroker-run (command)
  "Start the shell COMMAND as a job, in this directory."
  (interactive (list (read-shell-command "Job: ")))
  (jobbroker--start command))

;;;###autoload
(defun jobbroker-compile (command)
  "Start COMMAND, by default `compile-command', as a job, and show it as `compile' does."
  (interactive (list (compilation-read-command (eval compile-command t))))
  (setq compile-command command)
  (jobbroker--start command #'jobbroker--show))

(defun jobbroker--read-job ()
  "The job somebody means: that of the line, or one that is asked for."
  (or (and (derived-mode-p 'jobbroker-list-mode) (tabulated-list-get-id))
      (let ((newest (plist-get (car (jobbroker--sorted (jobbroker--here))) :id)))
        (completing-read (format-prompt "Job" newest) (hash-table-keys jobbroker--jobs) nil nil nil nil newest))))

(defun jobbroker--with (reference action)
  (jobbroker--request 'job/get (list :id reference :env t)
                      (lambda (result) (funcall action (plist-get result :job)))))

;;;###autoload
(defun jobbroker-cancel (reference)
  "End the job REFERENCE with all its processes."
  (interactive (list (jobbroker--read-job)))
  (jobbroker--request 'job/cancel (list :id reference)
                      (lambda (result)
                        (unless (eq (plist-get result :changed) t)
                          (message "job %s had ended already" (jobbroker--title (plist-get result :job)))))))

;;;###autoload
(defun jobbroker-rerun (reference)
  "Start the job REFERENCE again: the same command, directory, environment and limits."
  (interactive (list (jobbroker--read-job)))
  (jobbroker--with
   reference
   (lambda (job)
     (let (params)
       (dolist (member '(:name :labels :cwd :env :timeoutMs :idleTimeoutMs :graceMs :merged :argv :agent :prompt
                               :method :params))
         (when-let ((value (plist-get job member)))
           (unless (or (and (eq member :argv) (not (equal (plist-get job :kind) "command")))
                       (eq value :json-false))
             (setq params (plist-put params member value)))))
       (jobbroker--request 'job/start params (lambda (result) (jobbroker--adopt (plist-get result :job))))))))

;;;; Output

(defun jobbroker--append (buffer text)
  "Put TEXT at the end of BUFFER, as a terminal would; whoever is at its end stays there."
  (with-current-buffer buffer
    (let* ((inhibit-read-only t)
           (end (point-max))
           (windows (seq-filter (lambda (window) (= (window-point window) end)) (get-buffer-window-list buffer nil t)))
           (follow (= (point) end)))
      (save-excursion
        (goto-char end)
        (insert (replace-regexp-in-string "\r+\n" "\n" text))
        (ansi-color-apply-on-region end (point-max)))
      (when follow (goto-char (point-max)))
      (dolist (window windows) (set-window-point window (point-max))))))

(defun jobbroker--follow (buffer id cursor at-end)
  "Read the output of job ID into BUFFER from CURSOR until it ends; a lost connection is no end."
  (jobbroker--ask
   t 'job/output (list :id id :from cursor :waitMs jobbroker--wait)
   (lambda (piece)
     (when (buffer-live-p buffer)
       (when (> (plist-get piece :dropped) 0)
         (jobbroker--append buffer (format "\n[%d bytes were not kept]\n" (plist-get piece :dropped))))
       (jobbroker--append buffer (if (equal (plist-get piece :encoding) "base64")
                                     (decode-coding-string (base64-decode-string (plist-get piece :data)) 'utf-8)
                                   (plist-get piece :data)))
       (if (eq (plist-get piece :eof) t)
           (funcall at-end)
         (jobbroker--follow buffer id (plist-get piece :next) at-end))))
   (lambda (text lost)
     (if lost (jobbroker--follow buffer id cursor at-end) (message "jobs: %s" text)))))

(defvar-local jobbroker--complete nil "Whether all that the job wrote is in this buffer.")
(defvar-local jobbroker--when-complete nil "What to do then.")

(defun jobbroker--show (job &optional at-end)
  "Show what JOB writes in a buffer where errors are found as in `compile'; call AT-END there when all has come."
  (let* ((name (format "*job %s*" (jobbroker--title job)))
         (known (get-buffer name))
         (buffer (get-buffer-create name)))
    (with-current-buffer buffer
      (unless known
        (compilation-mode)
        (let ((inhibit-read-only t)) ; an error in the very first line would be passed over
          (insert (format "Job %s in %s\n\n" (jobbroker--title job) (jobbroker--text (plist-get job :cwd)))))
        ;; names of files are relative to where it ran
        (setq default-directory (file-name-as-directory (jobbroker--text (plist-get job :cwd))))
        (jobbroker--follow buffer (plist-get job :id) "0"
                           (lambda ()
                             (with-current-buffer buffer
                               (setq jobbroker--complete t)
                               (when jobbroker--when-complete (funcall jobbroker--when-complete))))))
      (setq jobbroker--when-complete at-end)
      (setq next-error-last-buffer buffer)
      (display-buffer buffer)
      (when (and jobbroker--complete at-end) (funcall at-end)))
    buffer))

(defun jobbroker--first-error ()
  (condition-case nil (first-error) (user-error (message "jobs: no errors found in %s" (buffer-name)))))

;;;###autoload
(defun jobbroker-output (reference)
  "Show what the job REFERENCE wrote, and writes."
  (interactive (list (jobbroker--read-job)))
  (jobbroker--with reference #'jobbroker--show))

;;;###autoload
(defun jobbroker-errors (reference)
  "Go to the first error in the output of the job REFERENCE, when it has ended."
  (interactive (list (jobbroker--read-job)))
  (jobbroker--with reference (lambda (job) (jobbroker--show job #'jobbroker--first-error))))

(provide 'jobbroker)
;;; jobbroker.el ends here
